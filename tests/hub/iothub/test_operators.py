"""The operators' side of the device door: connection strings, methods, messages, provisioning."""

import json
import threading

import httpx
import pytest
from tests.hub.iothub.conftest import Running, free_port

from farshore.mqtt import sas
from farshore.mqtt.packets import Puback, Publish


@pytest.fixture
def ask(running):
    """Ask the operator API in the hub's own event loop, with the admin's token."""
    token = (running.settings.data / "admin.token").read_text().strip()

    def ask(method, path, status=200, **more):
        async def go():
            transport = httpx.ASGITransport(running.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://hub") as client:
                return await client.request(
                    method, path, headers={"Authorization": f"Bearer {token}"}, timeout=60, **more
                )

        answer = running.do(go())
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    return ask


def announce(ask, device="d1"):
    from tests.sim.devices import key_of

    ask("POST", "/v1/devices", 201, json={"id": device, "key": str(key_of(device).public)})
    ask("POST", f"/v1/devices/{device}/connection", json={})


def test_a_connection_string_is_all_that_a_client_needs(running, ask):
    running.identity("d1")
    for module in ("", "camera"):
        found = ask("POST", "/v1/devices/d1/connection", json={"module": module, "gateway": "gate.example"})
        parts = dict(part.split("=", 1) for part in found["connection_string"].split(";"))
        assert (parts["HostName"], parts["DeviceId"], parts.get("ModuleId", "")) == ("127.0.0.1", "d1", module)
        assert parts["GatewayHostName"] == "gate.example" and found["port"] == running.settings.iothub_port
        client = running.client("d1", parts["SharedAccessKey"], module=module, host="127.0.0.1")
        assert client.connack.code == 0
        assert "BEGIN CERTIFICATE" in found["ca"] and found["generation"]
    ask("POST", "/v1/devices/nobody/connection", 404, json={})
    made = [ask("POST", "/v1/devices/new/connection", json={"create": True})["connection_string"] for _ in range(2)]
    assert made[0] == made[1]
    said = ask("POST", "/v1/devices/d1/connection", 400, json={"host": "elsewhere.example"})
    assert "--name elsewhere.example" in said["error"]["message"]


def test_a_device_that_was_shut_out_gets_no_further_by_it(running, ask):
    """A connection string is no way around the operator's word."""
    announce(ask)
    ask("POST", "/v1/devices/d1/revoke", json={"reason": "lost"})
    key = running.hub.identities.one("d1").identity.primary
    assert running.client("d1", key).connack.code == 5


def test_a_method_by_the_api(running, ask):
    key = running.identity("d1")
    assert ask("POST", "/v1/devices/d1/methods/reboot", 404, json={})["error"]["code"] == "not_found"
    client = running.client("d1", key)
    client.subscribe("$iothub/methods/POST/#")
    found = []
    thread = threading.Thread(
        target=lambda: found.append(ask("POST", "/v1/devices/d1/methods/re%2Fboot", json={"payload": {"in": 5}}))
    )
    thread.start()
    asked = client.expect(Publish, "$iothub/methods/POST/re%2Fboot/")
    client.say(f"$iothub/methods/res/200/?$rid={asked.topic.partition('$rid=')[2]}", b'["done"]')
    thread.join()
    assert json.loads(asked.payload) == {"in": 5}
    assert found == [{"status": 200, "payload": ["done"]}]
    assert ask("POST", "/v1/devices/d1/methods/slow", 504, json={"seconds": 1})["error"]["code"] == "unavailable"
    ask("POST", "/v1/devices/d1/methods/big", 413, json={"payload": "x" * 140_000})
    ask("POST", "/v1/devices/nobody/methods/x", 404, json={})


def test_messages_to_a_device_by_the_api(running, ask):
    key = running.identity("d1")
    sent = ask("POST", "/v1/devices/d1/messages", 201, json={"text": "stop", "properties": {"urgency": "high"}})
    [waits] = ask("GET", "/v1/devices/d1/waiting")
    assert waits == sent and waits["text"] == "stop"
    client = running.client("d1", key)
    client.subscribe("devices/d1/messages/devicebound/#")
    heard = client.expect(Publish)
    assert heard.payload == b"stop" and "urgency=high" in heard.topic
    client.send(Puback(heard.packet))
    client.twin()
    assert ask("GET", "/v1/devices/d1/waiting") == []
    running.identity("d1", "m")
    ask("POST", "/v1/devices/d1/messages", 201, json={"base64": "/w==", "module": "m", "input": "in"})
    assert ask("GET", "/v1/devices/d1/waiting", params={"module": "m"})[0]["base64"] == "/w=="


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400), ({"text": "a", "base64": "YQ=="}, 400), ({"base64": "%"}, 400), ({"text": "x" * 70_000}, 400),
        ({"text": "a", "module": "m"}, 400), ({"text": "a", "module": "m", "input": "i"}, 404), ({"text": "a", "seconds": 0}, 400),
        ({"text": "a", "properties": {str(number): "" for number in range(65)}}, 400),
    ],
)  # fmt: skip
def test_messages_that_are_refused(running, ask, body, status):
    running.identity("d1")
    ask("POST", "/v1/devices/d1/messages", status, json=body)


def test_fifty_messages_wait_at_most(running, ask):
    running.identity("d1")
    for _ in range(50):
        ask("POST", "/v1/devices/d1/messages", 201, json={"text": "x"})
    assert "50 messages wait" in ask("POST", "/v1/devices/d1/messages", 409, json={"text": "x"})["error"]["message"]


def test_messages_that_came_in(running, ask):
    key = running.identity("d1")
    client = running.client("d1", key)
    for body in (b'{"a": 1}', "blå".encode(), b"\xff"):
        client.say("devices/d1/messages/events/%24.mid=7&k=v", body)
    found = ask("GET", "/v1/messages")
    assert [one.get("json") or one.get("text") or one["base64"] for one in found] == [{"a": 1}, "blå", "/w=="]
    assert (found[0]["id"], found[0]["properties"]["k"], found[0]["device"]) == ("7", "v", "d1")
    assert ask("GET", "/v1/devices/d1/messages", params={"after": found[1]["serial"]}) == found[2:]
    assert ask("GET", "/v1/devices/d2/messages") == []


def test_provisioning_gives_a_key_of_ones_own(running, ask):
    found = ask("GET", "/v1/provisioning", params={"registration": "reg-1"})
    assert found["scope"] == "farshore" and found["registration_key"] == sas.digest(found["key"], b"reg-1")
    assert "registration_key" not in ask("GET", "/v1/provisioning")


def test_a_hub_without_the_door_says_how_to_open_it(tmp_path):
    running = Running(tmp_path / "hub", iothub_port=0, port=free_port())
    try:
        app, token = running.app, (running.settings.data / "admin.token").read_text().strip()

        async def go():
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://hub") as client:
                return await client.get("/v1/provisioning", headers={"Authorization": f"Bearer {token}"})

        answer = running.do(go())
        assert answer.status_code == 409 and "--iothub-port 8883" in answer.text
    finally:
        running.stop()
