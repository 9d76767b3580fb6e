"""The device door over websockets, by a client that is not ours."""

import contextlib

import pytest
from tests.hub.iothub.conftest import PATIENCE, Running, free_port
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from farshore.mqtt import packets, sas
from farshore.mqtt.packets import Connack, Connect, Pingreq, Pingresp, Reader


@pytest.fixture
def running(tmp_path):
    found = Running(tmp_path / "hub", iothub_websocket_port=free_port())
    yield found
    found.stop()


@contextlib.contextmanager
def socket(running, path="/$iothub/websocket?iothub-no-client-cert=true"):
    address = f"wss://localhost:{running.settings.iothub_websocket_port}{path}"
    with connect(address, ssl=running.context, subprotocols=["mqtt"], open_timeout=PATIENCE) as found:
        yield found


def hello(running):
    token = sas.sign("localhost/devices/d1", running.identity("d1"), int(running.hub.clock()) + 60).encode()
    return packets.write(Connect("d1", "localhost/d1/?api-version=2021-04-12", token))


def test_packets_are_cut_anywhere(running):
    with socket(running) as found:
        assert found.subprotocol == "mqtt"
        reader, data = Reader(), hello(running) + packets.write(Pingreq())
        for at in range(0, len(data), 7):
            found.send(data[at : at + 7])
        heard = []
        while len(heard) < 2:
            reader.feed(found.recv(PATIENCE))
            heard += iter(reader.next, None)
        assert heard == [Connack(0), Pingresp()]
    running.do(_gone(running))


async def _gone(running):
    import asyncio

    while running.hub.connected.connected("d1"):  # noqa: ASYNC110 - nothing tells when it went
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("data", ["a text frame", b"\x00\x00", b"\xe0\x00"])
def test_what_is_no_mqtt_ends_it(running, data):
    with socket(running) as found:
        found.send(data)
        with pytest.raises(ConnectionClosed):
            found.recv(PATIENCE)


def test_other_places_are_not_found(running):
    with pytest.raises(InvalidStatus, match="404"), socket(running, "/"):
        pass
