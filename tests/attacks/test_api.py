"""Anything at all, sent to every route: the answer is never the hub's own failure, and errors have one shape."""

import time
import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.sim.devices import enrol_body

with warnings.catch_warnings():  # it would rather have httpx's successor
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

from farshore.hub.app import ENDPOINTS, create_app
from farshore.hub.settings import Settings
from farshore.mqtt import sas

DIGEST = "sha256:" + "0" * 64
WORDS = [
    "d", "m", "m@1", "*", DIGEST, "1", "latest", "tags.a = 1", "", "..", "%2e%2e", "é", "a" * 200, "tags", "properties", "desired", "models",
    "files", "path", "digest", "version", "selector", "model", "priority", "reported", "seen", "wait", "want", "have", "token", "device",
    "credential", "bearer", "key", "turn", "challenge", "signature", "name", "seconds", "$version", "a.b", "\x00", "x" * 43,
    "SELECT * FROM devices", "SELECT COUNT() AS n FROM devices.modules WHERE a = 1 GROUP BY a", "FROM devices.modules WHERE true", "$edgeAgent",
    "deviceContent", "modulesContent", "properties.desired", "properties.desired.models.m", "properties.desired.a.b", "farshore:" + DIGEST, "DownloadUrl",
]  # fmt: skip
words = st.sampled_from(WORDS)
leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-(10**30), 10**30), st.floats(allow_nan=False, allow_infinity=False), words, st.text(max_size=8)
)  # fmt: skip
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(words, st.text(max_size=5)), inner, max_size=5)
    ),
    max_leaves=20,
)
# Bodies that are nearly right get further than those that are not.
nearly = st.fixed_dictionaries(
    {},
    optional={
        "files": st.lists(st.fixed_dictionaries({"path": words, "digest": st.just(DIGEST)}), min_size=1, max_size=3),
        "tags": st.dictionaries(words, leaves, max_size=3),
        "properties": st.dictionaries(st.sampled_from(["desired", "a", "models"]), values, max_size=3),
        "selector": words,
        "model": words,
        "version": leaves,
        "reported": st.dictionaries(words, values, max_size=3),
        "seen": leaves,
        "want": st.just(DIGEST),
        "device": words,
        "token": words,
        "bearer": st.one_of(words, st.just("0" * 64)),
        "key": st.one_of(words, st.just("ed25519:" + "A" * 43 + "=")),
        "signature": st.one_of(words, st.just("AAAA")),
        "challenge": words,
        "turn": leaves,
        "name": words,
        "archived": leaves,
        "title": leaves,
        "wait": st.sampled_from([0, -1, 10**9, "x", None]),
        "query": words,
        "content": st.dictionaries(
            st.sampled_from(["deviceContent", "moduleContent", "modulesContent"]),
            st.dictionaries(words, values, min_size=1, max_size=3),
            min_size=1,
            max_size=1,
        ),
        "targetCondition": words,
        "metrics": st.fixed_dictionaries({"queries": st.dictionaries(words, words, max_size=2)}),
        "authentication": st.one_of(
            values, st.fixed_dictionaries({"symmetricKey": st.dictionaries(words, words, max_size=2)})
        ),
        "status": st.sampled_from(["enabled", "disabled", "x", None]),
        "capabilities": st.fixed_dictionaries({"iotEdge": leaves}),
        "methodName": words,
        "responseTimeoutInSeconds": st.sampled_from([5, 0, -1, 10**9, "x"]),
        "id": words,
        "importMode": st.sampled_from(["create", "delete", "update", "updateTwin", "createOrUpdate", "x"]),
    },
)
names = st.one_of(words, st.text(max_size=10))


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    data = tmp_path_factory.mktemp("fuzz") / "hub"
    with TestClient(create_app(Settings(data=data)), raise_server_exceptions=False) as client:
        admin = {"Authorization": "Bearer " + (data / "admin.token").read_text().strip()}
        token = client.post("/v1/enrolments", json={}, headers=admin).json()["token"]
        client.post("/device/v1/enrol", json=enrol_body("d", token, bearer="c" * 43))
        key = client.app.hub.policies.one("iothubowner").primary
        service = {"Authorization": sas.sign("localhost", key, int(time.time()) + 24 * 3600, "iothubowner")}
        device = {"Authorization": "Bearer " + "c" * 43}
        client.who = {"operator": admin, "device": device, "ticket": {}, "service": service, "anyone": {}}
        yield client


def quoted(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode("utf-8", "surrogatepass"))


def check(answer):
    assert answer.status_code < 500, (answer.request.method, answer.request.url, answer.request.content, answer.text)
    if answer.status_code >= 400 and answer.request.method != "HEAD":
        if "iothub-errorcode" in answer.headers:
            assert set(answer.json()) == {"Message", "ExceptionMessage"}
            return
        if "isSuccessful" in answer.json():
            return
        error = answer.json()["error"]
        assert set(error) == {"code", "message"} and "\n" not in error["message"]


def fuzz(hub, one, data):
    path = one.path
    while "{" in path:
        head, _, rest = path.partition("{")
        path = head + quoted(data.draw(names)) + rest.partition("}")[2]
    query = {name: data.draw(names) for name, _ in one.query if data.draw(st.booleans())}
    headers = dict(hub.who[one.who])
    if one.who == "service" and data.draw(st.booleans()):
        headers["x-ms-continuation"] = data.draw(st.sampled_from(["x", "e30=", "eyJvZiI6ICJ4In0=", "A" * 3000]))
    for name in ("Range", "If-Match", "If-Range"):
        if data.draw(st.integers(0, 5)) == 0:
            headers[name] = data.draw(st.sampled_from(["bytes=0-", "bytes=-1", "*", '"x"', "bytes=9-1,2-3", b"\xe9"]))
    more = {}
    if one.takes is bytes:
        more["content"] = data.draw(st.binary(max_size=50))
    elif one.takes is not None:
        more["json"] = data.draw(st.one_of(nearly, values, st.lists(nearly, max_size=3)))
    check(hub.request(one.method, path, params=query, headers=headers, **more))


KEPT = {("DELETE", "/v1/devices/{device}"), ("DELETE", "/devices/{device}"), ("GET", "/v1/events")}
"""The first two would take away the device by which others are asked; the last takes nothing but a number, and does not end."""
ROUTES = [one for one in ENDPOINTS if (one.method, one.path) not in KEPT]


@pytest.mark.parametrize("one", ROUTES, ids=lambda one: f"{one.method} {one.path}")
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_anything_to_any_route(hub, one, data):
    fuzz(hub, one, data)


@pytest.mark.deep
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("one", ROUTES, ids=lambda one: f"{one.method} {one.path}")
@settings(max_examples=2500, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_very_much_of_anything_to_any_route(hub, one, data):
    fuzz(hub, one, data)
