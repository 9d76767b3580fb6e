"""How devices stand: renewal, copies, approval, revocation, announcement."""

import pytest
from tests.sim.devices import bearer_of, enrol_body, key_of, renew_body

WEEK = 7 * 24 * 3600


class Machine:
    """A device that keeps to the rules; ``copy`` is the same one, at another place, as it was at that moment."""

    def __init__(self, operator, name="d", turn=0, bearer=None):
        self.operator, self.name, self.turn, self.made = operator, name, turn, 0
        self.bearer = bearer or bearer_of(name)

    def copy(self):
        twin = Machine(self.operator, self.name, self.turn, self.bearer)
        twin.made = 1000
        return twin

    def post(self, path, status=200, **more):
        answer = self.operator.client.post(f"/device/v1/{path}", **more)
        assert answer.status_code == status, answer.text
        return answer.json()

    def challenge(self):
        return self.post("challenge", json={"device": self.name})["challenge"]

    def renew(self, status=200, *, keep=True, **more):
        self.made += 1
        bearer = f"bearer-number-{self.made}-of-{self.name}"
        asked = renew_body(self.name, self.turn, self.challenge(), bearer, **more)
        told = self.post("renew", status, json=asked)
        if status == 200 and keep:
            self.turn, self.bearer = told["turn"], bearer
        return asked, told

    def sync(self, status=200):
        return self.post("sync", status, json={}, headers={"Authorization": f"Bearer {self.bearer}"})


@pytest.fixture
def machine(operator):
    operator.enrolled("d")
    return Machine(operator)


def state(operator, device="d"):
    found = operator.get(f"/v1/devices/{device}")
    return found["state"], found.get("reason", "")


def test_a_bearer_lives_a_week_and_is_renewed_by_the_key(machine, clock):
    clock.now += WEEK - 1
    machine.sync()
    clock.now += 1
    assert "renew" in machine.sync(401)["error"]["message"]
    _, told = machine.renew()
    assert told == {"turn": 1, "expires": WEEK}
    machine.sync()


def test_a_renewal_ends_the_bearer_before(machine):
    old = machine.bearer
    machine.renew()
    machine.bearer, new = old, machine.bearer
    machine.sync(401)
    machine.bearer = new
    machine.sync()


def test_asking_again_after_a_lost_reply_gives_the_same(machine, operator):
    _, told = machine.renew(keep=False)
    again = renew_body("d", 0, machine.challenge(), f"bearer-number-{machine.made}-of-d")
    assert machine.post("renew", json=again) == told
    assert state(operator) == ("accepted", "")


def test_a_request_repeated_by_another_gains_nothing_and_harms_nobody(machine, operator):
    asked, _ = machine.renew()
    for _ in range(2):
        machine.post("renew", 401, json=asked)  # its challenge was answered
    machine.renew()
    machine.post("renew", 401, json=asked)
    assert state(operator) == ("accepted", "")
    machine.sync()


@pytest.mark.parametrize("first", [0, 1])
def test_a_copy_is_found_out_and_both_are_kept_out_until_an_operator_looked(machine, operator, first):
    two = [machine, machine.copy()]
    two[first].renew()
    told = two[1 - first].renew(403)[1]
    assert "two places" in told["error"]["message"]
    assert state(operator)[0] == "quarantined" and "two places" in state(operator)[1]
    for one in two:
        one.renew(403)
    two[first].sync(403)
    assert ("device.quarantined", "d") in [(one["kind"], one["subject"]) for one in operator.get("/v1/changes")]
    operator.ask("POST", "/v1/devices/d/approve")
    assert state(operator) == ("accepted", "")
    two[first].renew()
    two[first].sync()
    two[1 - first].renew(403)  # and found out again


def test_what_waits_hears_of_a_quarantine_at_once(machine, operator):
    copy = machine.copy()
    copy.renew()
    copy.renew()
    machine.renew(403)
    copy.sync(403)


def test_a_hub_that_was_restored_from_a_backup_takes_its_devices(machine, operator):
    machine.turn = 7  # the hub remembers none of these
    assert machine.renew()[1]["turn"] == 8
    machine.sync()


@pytest.mark.parametrize(
    "change",
    [{"turn": 5}, {"bearer": "0" * 64}, {"signature": ""}, {"signature": "AAAA"}, {"challenge": "1~" + "a" * 43}],
)
def test_a_changed_request_is_refused_and_does_not_quarantine(machine, operator, change):
    machine.post("renew", 403, json={**renew_body("d", 0, machine.challenge(), "b" * 43), **change})
    assert state(operator) == ("accepted", "")


def test_another_key_does_not_renew(machine, operator):
    machine.renew(403, key=key_of("thief"))
    assert state(operator) == ("accepted", "")


def test_a_challenge_is_for_one_device(machine, operator):
    operator.enrolled("e")
    other = Machine(operator, "e").challenge()
    machine.post("renew", 401, json=renew_body("d", 0, other, "b" * 43))


def test_a_challenge_grows_old(machine, clock):
    challenge = machine.challenge()
    clock.now += 301
    machine.post("renew", 401, json=renew_body("d", 0, challenge, "b" * 43))


def test_asking_for_a_challenge_does_not_tell_who_exists(machine):
    known, unknown = machine.challenge(), machine.post("challenge", json={"device": "nobody"})["challenge"]
    assert len(known) == len(unknown)
    machine.post("renew", 403, json=renew_body("nobody", 0, unknown, "b" * 43))


def test_a_bearer_of_another_device_is_a_conflict(machine, operator):
    operator.enrolled("e")
    machine.post("renew", 409, json=renew_body("d", 0, machine.challenge(), bearer_of("e")))


def test_revoked_at_once_and_everywhere(machine, operator, pushed):
    pushed()
    operator.ask("PUT", "/v1/deployments/prod", json={"selector": "*", "model": "detector"})
    machine.sync()
    headers = {"Authorization": f"Bearer {machine.bearer}"}
    manifest = operator.get("/v1/models/detector/versions/1")["manifest"]
    digest = next(file["digest"] for variant in manifest["variants"] for file in variant["files"])
    [*_, route] = machine.post("tickets", json={"want": digest}, headers=headers)["routes"]
    assert operator.client.get(route["url"]).status_code == 200
    told = operator.ask("POST", "/v1/devices/d/revoke", json={"reason": "stolen"}).json()
    assert (told["state"], told["reason"]) == ("revoked", "stolen")
    assert "stolen" in machine.sync(403)["error"]["message"]
    machine.post("tickets", 403, json={"want": digest}, headers=headers)
    assert operator.client.get(f"/device/v1/manifests/{digest}", headers=headers).status_code == 403
    assert operator.client.get(route["url"]).status_code == 403  # also with the ticket it got before
    machine.renew(403)
    operator.ask("POST", "/v1/devices/d/revoke", json={}, status=409)
    operator.ask("POST", "/v1/devices/d/approve")
    machine.sync()
    operator.ask("POST", "/v1/devices/d/approve", status=409)
    operator.ask("POST", "/v1/devices/absent/approve", status=404)


def test_a_device_may_have_to_wait_for_approval(operator):
    token = operator.ask("POST", "/v1/enrolments", json={"approval": True}).json()["token"]
    machine = Machine(operator)
    assert machine.post("enrol", json=enrol_body("d", token))["pending"] is True
    assert "waits" in machine.sync(403)["error"]["message"]
    machine.renew(403)
    assert state(operator)[0] == "pending"
    operator.ask("POST", "/v1/devices/d/approve")
    machine.sync()
    assert "pending" not in machine.post("enrol", json=enrol_body("d", token))


def test_an_announced_key_needs_no_token(operator):
    body = {"id": "d", "key": str(key_of("d").public), "tags": {"site": "oslo"}}
    assert operator.ask("POST", "/v1/devices", json=body, status=201).json()["tags"] == {"site": "oslo"}
    machine = Machine(operator)
    machine.post("enrol", 403, json=enrol_body("d", key=key_of("thief")))
    machine.post("enrol", 403, json={**enrol_body("d", key=key_of("thief")), "key": body["key"]})
    assert machine.post("enrol", json=enrol_body("d"))["device"] == "d"
    machine.sync()
    machine.renew()
    machine.post("enrol", json=enrol_body("d"))  # repeated by another: nothing changes
    machine.sync()
    operator.ask("POST", "/v1/devices", json=body, status=409)
    operator.ask("POST", "/v1/devices", json={**body, "id": "e"}, status=409)
    operator.ask("POST", "/v1/devices", json={**body, "key": "ed25519:AAAA"}, status=400)


def test_an_operator_may_quarantine(operator):
    device = operator.enrolled("d")
    found = operator.ask("POST", "/v1/devices/d/quarantine", json={"reason": "looks tampered with"}).json()
    assert (found["state"], found["reason"]) == ("quarantined", "looks tampered with")
    device.sync(status=403)
    operator.ask("POST", "/v1/devices/d/quarantine", json={}, status=409)
    operator.ask("POST", "/v1/devices/d/approve")
    device.sync()
    assert operator.get("/v1/devices/d/timeline")[1]["detail"] == "looks tampered with"
    operator.ask("POST", "/v1/devices/nobody/quarantine", json={}, status=404)
