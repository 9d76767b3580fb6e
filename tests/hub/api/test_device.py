import json

import pytest
from tests.sim.devices import bearer_of, enrol_body, key_of

from farshore.core import digest as digests
from farshore.core.wire import MAX_WAIT
from farshore.trust.chain import Chain
from farshore.trust.metadata import pin_of

BEARER = "c" * 43
ONE, OTHER = key_of("one"), key_of("other")


@pytest.fixture
def enrol(operator):
    def ask(device="d", key=ONE, token=None, bearer=None, **more):
        token = token or operator.ask("POST", "/v1/enrolments", json=more).json()["token"]
        bearer = bearer or bearer_of(f"{device}-{key.public.id}")
        return operator.client.post("/device/v1/enrol", json=enrol_body(device, token, key=key, bearer=bearer)), token

    return ask


@pytest.fixture
def desired(operator, pushed):
    """A device that should run version 1 of a detector; with the version."""
    device = operator.enrolled("d")
    pushed()
    operator.ask("PUT", "/v1/deployments/prod", json={"selector": "*", "model": "detector"})
    device.sync()
    return device, operator.get("/v1/models/detector/versions/1")


def test_enrolment_gives_the_line_of_roots(operator, enrol, hub):
    answer, _ = enrol()
    assert answer.json() == {"device": "d", "roots": operator.get("/v1/trust")["roots"]}
    assert pin_of(hub.director.roots()[0]) == operator.get("/v1/hub")["root"]
    assert Chain.begin(json.dumps(answer.json()["roots"][0]).encode()).root.version == 1


def test_asking_again_after_a_lost_reply_gives_the_same(enrol, clock):
    first, token = enrol()
    clock.now += 1e6  # also when the token would have expired meanwhile
    again, _ = enrol(token=token)
    assert (again.status_code, again.json()) == (200, first.json())


def test_a_token_is_for_one_device_only(enrol):
    _, token = enrol()
    for device, key in (("e", OTHER), ("d", OTHER), ("e", ONE)):
        answer, _ = enrol(device, key, token=token)
        assert answer.status_code == 403
        assert "used already" in answer.json()["error"]["message"]


def test_a_token_expires_and_can_be_removed(operator, enrol, clock):
    made = operator.ask("POST", "/v1/enrolments", json={"seconds": 60}).json()
    clock.now += 60
    assert "expired" in enrol(token=made["token"])[0].json()["error"]["message"]
    made = operator.ask("POST", "/v1/enrolments", json={}).json()
    clock.now += 24 * 3600 - 1
    operator.ask("DELETE", f"/v1/enrolments/{made['id']}")
    assert "unknown" in enrol(token=made["token"])[0].json()["error"]["message"]
    operator.ask("DELETE", f"/v1/enrolments/{made['id']}", status=404)


def test_an_unknown_token(enrol):
    assert enrol(token="t" * 43)[0].status_code == 403


def test_a_fixed_id_and_tags(operator):
    answer, _ = enrol_fixed(operator)
    assert answer.json()["device"] == "turbine-7"
    assert operator.get("/v1/devices/turbine-7")["tags"] == {"site": "oslo"}


def enrol_fixed(operator, bearer=BEARER, key=ONE):
    made = operator.ask("POST", "/v1/enrolments", json={"device": "turbine-7", "tags": {"site": "oslo"}}).json()
    body = enrol_body("wish", made["token"], key=key, bearer=bearer)
    return operator.client.post("/device/v1/enrol", json=body), made["token"]


def test_a_token_for_a_device_that_exists_gives_it_a_new_key(operator):
    enrol_fixed(operator)
    operator.ask("PATCH", "/v1/devices/turbine-7/twin", json={"properties": {"desired": {"rate": 5}}})
    enrol_fixed(operator, "n" * 43, OTHER)
    sync = lambda bearer: operator.client.post(  # noqa: E731
        "/device/v1/sync", json={}, headers={"Authorization": f"Bearer {bearer}"}
    )
    assert sync(BEARER).status_code == 401
    assert sync("n" * 43).json()["desired"]["rate"] == 5
    assert operator.get("/v1/devices/turbine-7")["key"] == str(OTHER.public)


def test_a_name_a_key_or_a_bearer_that_is_taken(enrol):
    enrol(bearer=BEARER)
    assert enrol("d", OTHER)[0].status_code == 409
    assert enrol("e", ONE)[0].status_code == 409
    assert enrol("e", OTHER, bearer=BEARER)[0].status_code == 409


def test_no_secret_is_kept_as_it_is(operator, enrol, settings):
    _, token = enrol(bearer=BEARER)
    admin = (settings.data / "admin.token").read_text().strip()
    for path in settings.data.rglob("hub.sqlite3*"):
        data = path.read_bytes()
        for secret in (token, BEARER, admin):
            assert secret.encode() not in data


def test_secret_files_are_for_their_owner_alone(client, settings):
    for name in ("admin.token", "keys/director.key", "keys/development/root.key", "tickets.key"):
        assert (settings.data / name).stat().st_mode & 0o777 == 0o600
    assert settings.data.stat().st_mode & 0o777 == 0o700


def test_the_size_of_a_sync(desired):
    device, _ = desired
    asked = {"seen": 2}
    idle = device.client.post("/device/v1/sync", json=asked, headers=device.headers)
    assert len(idle.content) <= len('{"retry":60.00}')
    changed = device.client.post("/device/v1/sync", json={"seen": 1}, headers=device.headers)
    assert len(changed.content) < 190


def test_retry_has_jitter(desired):
    device, _ = desired
    polls = {device.sync(seen=2)["retry"] for _ in range(30)}
    assert len(polls) > 15
    assert all(48 <= retry <= 72 for retry in polls)
    assert device.sync(seen=2, reported={"n": 1}, wait=60)["retry"] <= 1
    assert device.sync(seen=0, wait=60)["retry"] <= 1  # news was there at once: another change may follow at any moment


def test_wait_is_bounded(desired):
    device, _ = desired
    device.sync(seen=2, wait=MAX_WAIT + 1, status=400)
    device.sync(seen=2, wait=-1, status=400)


def test_too_many_that_wait_are_sent_home(operator_of):
    device = operator_of(held=0).enrolled("d")
    assert device.sync(seen=1, wait=60)["retry"] >= 48


def test_the_manifest_of_what_is_desired(desired):
    device, version = desired
    assert digests.of(device.manifest(version["digest"])) == version["digest"]


def test_nothing_but_what_is_desired(desired, operator, pushed, clock):
    device, version = desired
    other = pushed("other")
    device.manifest(other["digest"], status=403)
    file = operator.get("/v1/models/other/versions/1")["manifest"]["variants"][0]["files"][0]
    stray = operator.upload(b"nobody's")
    device.ticket(stray, status=403)
    device.ticket(digests.of(b"absent"), status=403)
    assert device.ticket(file["digest"])  # the same bytes belong to the detector too
    operator.ask("DELETE", "/v1/deployments/prod")
    device.sync()
    device.ticket(file["digest"], status=403)
    device.manifest(version["digest"], status=403)


def test_a_ticket_opens_its_object_by_ranges(desired, operator, make_onnx):
    device, version = desired
    file = version["manifest"]["variants"][0]["files"][0]
    reply = device.ticket(file["digest"], have=[digests.of(b"held")])
    [route] = reply["routes"]
    assert (reply["expires"], route["digest"], route["size"]) == (600, file["digest"], file["size"])
    assert route["url"].startswith("/device/v1/objects/")
    whole = operator.client.get(route["url"])
    assert (whole.status_code, whole.content) == (200, make_onnx(1))
    part = operator.client.get(route["url"], headers={"Range": "bytes=7-"})
    assert (part.status_code, part.content) == (206, make_onnx(1)[7:])


def test_a_ticket_opens_nothing_else_and_not_for_long(desired, operator, clock):
    device, version = desired
    model, labels = (file["digest"] for file in version["manifest"]["variants"][0]["files"])
    url = device.ticket(model)["routes"][0]["url"]
    get = lambda address: operator.client.get(address).status_code  # noqa: E731
    assert get(url) == 200
    assert get(url.replace(model, labels)) == 403
    assert get(url.partition("?")[0]) == 403
    assert get(url[:-2] + ("AA" if not url.endswith("AA") else "BB")) == 403
    clock.now += 599
    assert get(url) == 200
    clock.now += 1
    assert get(url) == 403


def test_a_deleted_devices_ticket_is_worth_nothing(desired, operator):
    device, version = desired
    url = device.ticket(version["manifest"]["variants"][0]["files"][0]["digest"])["routes"][0]["url"]
    operator.ask("DELETE", "/v1/devices/d")
    assert operator.client.get(url).status_code == 403


def test_no_url_stands_in_a_twin(desired, operator):
    device, _ = desired
    assert "http" not in str(device.sync())
    assert "ticket" not in str(operator.get("/v1/devices/d/twin"))
