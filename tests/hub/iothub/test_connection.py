"""The device door as bare packets see it."""

import contextlib
import json
import random
import socket
import threading
import time

import pytest
from tests.mqtt.test_packets import SAMPLES

from farshore.core.errors import Conflict
from farshore.hub.connected import NoAnswer, NotConnected
from farshore.hub.identities import Wanted
from farshore.hub.records import messages, subscriptions
from farshore.mqtt import packets, sas
from farshore.mqtt.packets import Connack, Puback, Publish, Unsubscribe, Will

DESIRED = "$iothub/twin/PATCH/properties/desired/#"
TWIN = "$iothub/twin/res/#"
METHODS = "$iothub/methods/POST/#"
BOUND = "devices/d1/messages/devicebound/#"
EVENTS = "devices/d1/messages/events/"


@pytest.fixture
def key(running):
    return running.identity("d1")


def received(running):
    with running.hub.database.reading() as tx:
        return messages.after(tx, 0, 1000)


def send(running, body, device="d1", module="", **more):
    now = running.hub.clock()
    row = messages.Waiting(0, device, module, more.get("input", ""), 0, False, now, now + 600, {"k": "v"}, body)
    with running.hub.database.writing() as tx:
        found = messages.send(tx, row)
    running.loop.call_soon_threadsafe(running.hub.connected.deliver, device, module)
    return found


def pending(running, device="d1", module=""):
    with running.hub.database.reading() as tx:
        return messages.pending(tx, device, module, running.hub.clock())


def eventually(look):
    end = time.monotonic() + 20
    while not look():
        assert time.monotonic() < end, "it never held"
        time.sleep(0.02)


def invoked(running, *given):
    """Call a method from another thread; a function that gives the result or raises."""
    found = []

    def call():
        try:
            found.append(running.do(running.hub.connected.invoke(*given)))
        except Exception as error:  # noqa: BLE001 - raised anew where it is asked for
            found.append(error)

    thread = threading.Thread(target=call)
    thread.start()

    def result():
        thread.join(30)
        if isinstance(found[0], Exception):
            raise found[0]
        return found[0]

    return result


# -- who comes in ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ({}, 0), ({"key": "no"}, 5), ({"password": b"no token"}, 5), ({"password": b"\xff"}, 5), ({"key": None}, 5),
        ({"expires": 1}, 5), ({"host": "elsewhere.example"}, 5), ({"host": "127.0.0.1"}, 0), ({"client": "d2"}, 5),
    ],
)  # fmt: skip
def test_who_comes_in(running, key, how, code):
    client = running.client(
        how.pop("client", "d1"), **{"key": key, **how} if how.get("key") != "no" else {"key": sas_key()}
    )
    assert client.connack == Connack(code)
    if code:
        assert client.gone()
    client.close()


def sas_key():
    import base64

    return base64.b64encode(b"another key, of thirty-two bytes").decode()


def test_a_devices_key_opens_no_other_door(running, key):
    module = running.identity("d1", "m")
    assert running.client("d1", module).connack.code == 5
    assert running.client("d1", key, module="m").connack.code == 5
    assert running.client("d1", module, module="m").connack.code == 0
    stranger = sas.sign("localhost/devices/d1", key, int(running.hub.clock()) + 60).encode()
    assert running.client("d1", module="m", password=stranger).connack.code == 5


def test_the_secondary_key_and_a_disabled_device(running, key):
    secondary = running.hub.identities.one("d1").identity.secondary
    assert running.client("d1", secondary).connack.code == 0
    running.hub.identities.put("d1", "", Wanted(enabled=False, reason="lost"), "*")
    assert running.client("d1", key).connack.code == 5


def test_who_waits_for_approval_is_told_to_come_again(running, key):
    from msgspec.structs import replace

    from farshore.hub.records import devices

    with running.hub.database.writing() as tx:
        devices.set_standing(tx, "d1", replace(devices.standing(tx, "d1"), state="pending"))
    assert running.client("d1", key).connack.code == 3


def test_a_full_or_closing_hub_says_come_again(running, key):
    running.hub.bells.closed = True
    assert running.client("d1", key).connack.code == 3


def test_another_version_of_mqtt_and_noise(running, key):
    client = running.client("d1", key, connect=False)
    client.socket.sendall(b"\x10\x10\x00\x04MQTT\x05\x02\x00\x3c\x05\x11\x00\x00\x00\x0a")
    assert client.receive() == Connack(1)
    assert client.gone()
    noisy = running.client("d1", key, connect=False)
    noisy.socket.sendall(b"GET / HTTP/1.1\r\n\r\n")
    assert noisy.receive() is None


def test_the_connection_ends_with_the_token(running, key):
    client = running.client("d1", key, expires=int(running.hub.clock()) + 2)
    assert client.connack.code == 0
    assert client.gone()


def test_a_newcomer_takes_the_place(running, key):
    first = running.client("d1", key)
    second = running.client("d1", key)
    assert first.gone()
    assert second.twin()
    assert running.hub.connected.connected("d1") and len(running.hub.connected) == 1


@pytest.mark.parametrize("how", ["revoked", "deleted", "rekeyed"])
def test_who_may_not_stay_is_put_out(running, key, how):
    client = running.client("d1", key)
    client.twin()
    if how == "revoked":
        running.hub.standings.revoke("d1", "stolen")
    elif how == "deleted":
        running.hub.fleet.remove("d1")
    else:
        running.hub.identities.put("d1", "", Wanted(primary="", secondary=""), "*")
    running.ring("d1")
    assert client.gone()


def test_comings_and_goings_are_written_down(running, key):
    client = running.client("d1", key)
    client.twin()
    running.hub.connected.flush()
    assert running.hub.identities.one("d1").identity.connection_at is not None
    client.close()
    eventually(lambda: not running.hub.connected.connected("d1"))


# -- twins -------------------------------------------------------------------------------------------------------------


def test_a_twin_is_answered_without_a_subscription_and_before_the_acknowledgement(running, key):
    client = running.client("d1", key)
    packet = client.publish("$iothub/twin/GET/?$rid=abc", b" ")
    answer, acknowledged = client.receive(), client.receive()
    assert answer.topic == "$iothub/twin/res/200/?$rid=abc"
    assert json.loads(answer.payload) == {"desired": {"$version": 1}, "reported": {"$version": 1}}
    assert acknowledged == Puback(packet)


def test_reports_are_the_twins(running, key):
    client = running.client("d1", key)
    assert client.report({"a": {"b": 1}}, "r1").topic == "$iothub/twin/res/204/?$rid=r1&$version=2"
    assert client.report({"a": None, "c": 2}).topic.endswith("$version=3")
    assert running.hub.fleet.twin("d1").reported.values == {"c": 2}
    assert running.hub.fleet.device("d1")[0].seen is not None


@pytest.mark.parametrize(
    "payload",
    [b"", b"[]", b"{", b'{"a b": 1}', b'{"a": [null]}', b"\xff", b"[" * 5000, b'{"a":"' + b"x" * 40000 + b'"}'],
)
def test_a_bad_report_is_answered_400_and_takes_nothing(running, key, payload):
    client = running.client("d1", key)
    client.publish("$iothub/twin/PATCH/properties/reported/?$rid=1", payload)
    answer = client.expect(Publish)
    assert answer.topic == "$iothub/twin/res/400/?$rid=1"
    assert json.loads(answer.payload)["errorCode"] == 400004
    assert running.hub.fleet.twin("d1").reported.version == 1
    assert client.twin()


def test_desired_is_told_as_it_was_written_with_its_version(running, key):
    client = running.client("d1", key)
    assert client.subscribe(TWIN, DESIRED) == (1, 1)
    running.patch("d1", {"a": 1, "b": {"c": 2}})
    assert client.told() == {"a": 1, "b": {"c": 2}, "$version": 2}
    running.patch("d1", {"a": 1})
    assert client.told() == {"a": 1, "$version": 3}  # as IoT Hub does: what was written, not what differs
    running.hub.fleet.change_twin("d1", {"properties": {"desired": {"a": 1, "d": 4}}}, None, replace=True)
    running.ring("d1")
    assert client.told() == {"a": 1, "b": None, "d": 4, "$version": 4}
    client.send(Unsubscribe(9, (DESIRED,)))
    client.receive()
    running.patch("d1", {"a": 2})
    assert client.silent() == "silent"


def test_what_changed_while_it_was_away_is_told_when_it_is_back(running, key):
    client = running.client("d1", key)
    client.subscribe(DESIRED)
    running.patch("d1", {"a": 1})
    assert client.told()["$version"] == 2
    client.close()
    eventually(lambda: not running.hub.connected.connected("d1"))
    running.patch("d1", {"b": 1})
    again = running.client("d1", key)
    assert again.connack.present
    assert again.told() == {"a": 1, "b": 1, "$version": 3}


def test_what_it_was_told_is_not_told_again(running, key):
    client = running.client("d1", key)
    client.subscribe(DESIRED)
    running.patch("d1", {"a": 1})
    client.told()
    running.hub.connected.flush()
    client.close()
    assert running.client("d1", key).silent() == "silent"


def test_a_deployments_model_reaches_the_same_section(running, key):
    module = running.identity("d1", "m")
    client = running.client("d1", module, module="m")
    client.subscribe(DESIRED)
    running.patch("d1", {"of": "the device"})
    running.patch("d1", {"of": "the module"}, module="m")
    assert client.told() == {"of": "the module", "$version": 2}


# -- subscriptions -----------------------------------------------------------------------------------------------------


def test_subscriptions_are_on_disk_before_they_are_confirmed(running, key):
    client = running.client("d1", key)
    assert client.subscribe(TWIN, BOUND, "#", "devices/d2/messages/devicebound/#", qos=2) == (1, 1, 0x80, 0x80)
    with running.hub.database.reading() as tx:
        assert subscriptions.one(tx, "d1", "").filters == {TWIN: 1, BOUND: 1}
    client.send(Unsubscribe(7, (TWIN,)))
    client.receive()
    with running.hub.database.reading() as tx:
        assert subscriptions.one(tx, "d1", "").filters == {BOUND: 1}


def test_they_outlive_the_hub(running, key):
    running.client("d1", key).subscribe(DESIRED)
    running.stop()
    running.start()
    client = running.client("d1", key)
    assert client.connack.present
    running.patch("d1", {"a": 1})
    assert client.told()["a"] == 1


# -- methods -----------------------------------------------------------------------------------------------------------


def test_methods(running, key):
    client = running.client("d1", key)
    client.subscribe(METHODS)
    result = invoked(running, "d1", "", "re boot", {"in": [1]}, 10)
    asked = client.expect(Publish, "$iothub/methods/POST/")
    assert asked.topic.startswith("$iothub/methods/POST/re%20boot/?$rid=")
    assert json.loads(asked.payload) == {"in": [1]}
    rid = asked.topic.partition("$rid=")[2]
    client.say("$iothub/methods/res/207/?$rid=999", b"{}")  # to nobody
    client.say(f"$iothub/methods/res/207/?$rid={rid}", b'{"ok":true}')
    found = result()
    assert (found.status, found.payload) == (207, {"ok": True})


def test_methods_that_get_no_answer(running, key):
    with pytest.raises(NotConnected):
        running.do(running.hub.connected.invoke("d1", "", "m", None, 1))
    client = running.client("d1", key)
    with pytest.raises(NotConnected):  # it takes none
        running.do(running.hub.connected.invoke("d1", "", "m", None, 1))
    client.subscribe(METHODS)
    with pytest.raises(NoAnswer):
        running.do(running.hub.connected.invoke("d1", "", "m", None, 0.2))
    result = invoked(running, "d1", "", "m", None, 10)
    client.expect(Publish, "$iothub/methods/POST/m/?$rid=2")
    client.close()
    with pytest.raises(NotConnected):
        result()


def test_a_method_may_wait_for_its_device(running, key):
    result = invoked(running, "d1", "", "m", None, 10, 10)
    client = running.client("d1", key)
    client.subscribe(METHODS)
    asked = client.expect(Publish, "$iothub/methods/POST/")
    client.say(f"$iothub/methods/res/200/?$rid={asked.topic.partition('$rid=')[2]}", b"no json")
    assert result().payload is None


def test_calls_that_wait_are_bounded(running, key):
    running.client("d1", key).subscribe(METHODS)

    async def many():
        import asyncio

        calls = [asyncio.create_task(running.hub.connected.invoke("d1", "", "m", None, 0.5)) for _ in range(40)]
        return await asyncio.gather(*calls, return_exceptions=True)

    found = running.do(many())
    assert {type(one) for one in found} == {NoAnswer, Conflict}


# -- messages ----------------------------------------------------------------------------------------------------------


def test_messages_are_on_disk_before_they_are_acknowledged(running, key):
    client = running.client("d1", key)
    client.say(f"{EVENTS}%24.mid=1&%24.ct=application%2Fjson&temp=21%20C", b"one")
    [found] = received(running)
    assert (found.device, found.module, found.output, found.body) == ("d1", "", "", b"one")
    assert found.properties == {"$.mid": "1", "$.ct": "application/json", "temp": "21 C"}
    client.publish(EVENTS, b"two", qos=0)
    client.publish(EVENTS, b"three", retain=True)
    client.expect(Puback)
    assert [one.body for one in received(running)] == [b"one", b"two", b"three"]
    assert received(running)[2].properties == {"mqtt-retain": "true"}


def test_what_is_sent_again_is_kept_once(running, key):
    client = running.client("d1", key)
    client.say(f"{EVENTS}%24.mid=1", b"one")
    client.say(f"{EVENTS}%24.mid=1", b"one")
    client.say(f"{EVENTS}%24.mid=1", b"another with the same id")
    client.say(EVENTS, b"one")
    client.say(EVENTS, b"one")
    assert [one.body for one in received(running)] == [b"one", b"another with the same id", b"one", b"one"]


def test_many_at_once_are_acknowledged_in_their_order(running, key):
    client = running.client("d1", key)
    packets = [client.publish(EVENTS, str(number).encode()) for number in range(300)]
    assert [client.expect(Puback).packet for _ in packets] == packets
    assert [int(one.body) for one in received(running)] == list(range(300))


def test_a_will_becomes_a_message(running, key):
    client = running.client("d1", key, will=Will(f"{EVENTS}a=b", b"gone"))
    client.twin()
    client.close()
    eventually(lambda: received(running))
    assert received(running)[0].properties == {"a": "b", "iothub-MessageType": "Will"}


@pytest.mark.parametrize(
    "topic", ["x", "devices/d2/messages/events/", "$iothub/twin/GET/", "devices/d1/modules/m/messages/events/"]
)
def test_unknown_topics_end_the_connection(running, key, topic):
    client = running.client("d1", key)
    client.publish(topic, b"")
    assert client.gone()


def test_messages_to_a_device_wait_for_it_and_for_its_word(running, key):
    send(running, b"early")
    client = running.client("d1", key)
    client.subscribe(BOUND)
    first = client.expect(Publish)
    assert first.topic.startswith("devices/d1/messages/devicebound/%24.to=") and first.topic.endswith("&k=v")
    assert (first.payload, first.qos, first.dup) == (b"early", 1, False)
    send(running, b"second")
    second = client.expect(Publish)
    client.send(Puback(first.packet))
    eventually(lambda: len(pending(running)) == 1)
    client.close()
    again = running.client("d1", key)  # nobody said that it took the second one
    resent = again.expect(Publish)
    assert (resent.payload, resent.packet, resent.dup) == (b"second", second.packet, True)
    again.send(Puback(resent.packet))
    eventually(lambda: not pending(running))


def test_fifty_wait_at_most_and_all_come_in_their_order(running, key):
    for number in range(50):
        send(running, str(number).encode())
    with pytest.raises(Conflict, match="50 messages wait"):
        send(running, b"51")
    client = running.client("d1", key)
    client.subscribe(BOUND)
    found = []
    while len(found) < 50:
        packet = client.expect(Publish)
        found.append(int(packet.payload))
        client.send(Puback(packet.packet))
    assert found == list(range(50))
    eventually(lambda: not pending(running))


def test_who_subscribed_without_acknowledgement_gets_each_once(running, key):
    client = running.client("d1", key)
    client.subscribe(BOUND, qos=0)
    send(running, b"x")
    assert client.expect(Publish).qos == 0
    eventually(lambda: not pending(running))


def test_inputs_of_a_module(running, key):
    client = running.client("d1", running.identity("d1", "m"), module="m")
    client.subscribe("devices/d1/modules/m/#")
    send(running, b"x", module="m", input="in put")
    assert client.expect(Publish).topic == "devices/d1/modules/m/inputs/in%20put/k=v"


def test_outputs_go_where_the_devices_routes_lead(running, key):
    camera, sieve = (running.identity("d1", name) for name in ("camera", "sieve"))
    running.identity("d1", "$edgeHub")
    ways = {
        "up": "FROM /messages/modules/sieve/* INTO $upstream",
        "over": 'FROM /messages/modules/camera/outputs/frames INTO BrokeredEndpoint("/modules/sieve/inputs/frames")',
    }
    running.patch("d1", {"routes": ways}, module="$edgeHub")
    first, second = running.client("d1", camera, module="camera"), running.client("d1", sieve, module="sieve")
    second.subscribe("devices/d1/modules/sieve/inputs/#")
    for number in range(40):
        first.say("devices/d1/modules/camera/messages/events/%24.on=frames&n=1", str(number).encode())
    first.say("devices/d1/modules/camera/messages/events/", b"nowhere")
    heard = []
    while len(heard) < 40:
        packet = second.expect(Publish)
        heard.append(int(packet.payload))
        second.send(Puback(packet.packet))
    assert heard == list(range(40))
    assert packet.topic == "devices/d1/modules/sieve/inputs/frames/%24.cdid=d1&%24.cmid=camera&n=1"
    second.say("devices/d1/modules/sieve/messages/events/", b"up")
    assert [(one.module, one.body) for one in received(running)] == [("sieve", b"up")]


@pytest.mark.parametrize("known", [False, True])
def test_noise_of_every_kind_leaves_the_door_open(running, key, known, caplog):
    """Whatever comes before or after the CONNECT ends that connection at most; nothing is raised in the hub."""
    chance = random.Random(7)
    for number in range(60):
        client = running.client("d1", key, connect=known)
        whole = bytearray(packets.write(chance.choice(SAMPLES)))
        for _ in range(chance.randrange(4)):
            whole[chance.randrange(len(whole))] = chance.randrange(256)
        noise = bytes(whole) + chance.randbytes(chance.choice([0, 1, 50, 5000]))
        with contextlib.suppress(OSError):
            client.socket.sendall(noise[: chance.randrange(len(noise)) + 1] if number % 2 else noise)
        client.close()
    assert running.client("d1", key).twin()
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


def test_strangers_who_stall_keep_nobody_out(running, key):
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(socket.create_connection(("127.0.0.1", running.settings.iothub_port)))
        assert running.client("d1", key).connack.code == 0


def test_a_slow_or_silent_reader_is_let_go(running, key):
    client = running.client("d1", key, keepalive=1)
    assert client.gone()  # not a word in one and a half seconds


def test_a_hub_that_stops_lets_everybody_go(running, key):
    clients = [running.client("d1", key), running.client("d1", running.identity("d1", "m"), module="m")]
    half = running.client("d1", key, connect=False)
    running.stop()
    assert all(client.gone() for client in clients)
    with contextlib.suppress(OSError):
        half.socket.recv(1)
