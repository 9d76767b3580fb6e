"""Unmodified azure-iot-device of Node against the hub, over TCP and websockets."""

import contextlib

import pytest
from tests.hub.iothub.conftest import free_port
from tests.hub.iothub.sdk import needs_port_443
from tests.hub.iothub.test_sdk import Site, called, eventually, module_environment, pending, restart, send

pytestmark = pytest.mark.deep


class Node(Site):
    """A hub at an address of its own, and Node's clients, all over one transport."""

    def __init__(self, folder, stack, *, websockets=False, **settings):
        self.websockets = websockets
        super().__init__(folder, stack, **settings)

    def node(self, device, module="", key=None, **options):
        return self.sdk("node", device, module, key, websockets=self.websockets, **options)


@pytest.fixture(params=["tcp", "websockets"])
def site(request, tmp_path):
    websockets = request.param == "websockets"
    with contextlib.ExitStack() as stack:
        if websockets:
            needs_port_443()
        yield Node(tmp_path, stack, websockets=websockets, iothub_websocket_port=443 if websockets else 0)


def test_a_device(site):
    key = site.running.identity("d1")
    send(site, "d1", b"while away")
    node = site.node("d1", key=key)
    node.ask("connect")
    assert node.ask("get_twin") == {"desired": {"$version": 1}, "reported": {"$version": 1}}
    node.ask("report", change={"a": {"b": 1}, "c": "å"})
    assert node.ask("get_twin")["reported"] == {"a": {"b": 1}, "c": "å", "$version": 2}
    assert site.running.hub.fleet.twin("d1").reported.values == {"a": {"b": 1}, "c": "å"}
    node.ask("listen")
    site.running.patch("d1", {"mode": "night"})
    assert node.until(2) == {"mode": "night", "$version": 2}
    node.ask("methods", status=201)
    eventually(lambda: called(site, "d1", "", {"x": [1, None]}))
    node.ask("send", data="hello", temperature="21 °C", mid="m1")
    node.ask("send", data="x" * 100_000)
    first, second = site.received()
    assert (first.body, first.properties["temperature"], first.message[:3]) == (b"hello", "21 °C", "m1:")
    assert len(second.body) == 100_000
    node.ask("messages")
    heard = node.next("message")
    assert (heard["data"], heard["properties"]) == ("while away", {"k": "v w"})
    send(site, "d1", b"now")
    assert node.next("message")["data"] == "now"
    eventually(lambda: not pending(site, "d1"))


def test_a_module(site):
    site.running.identity("d1")
    node = site.node("d1", "m")
    node.ask("connect")
    assert node.ask("get_twin") == {"desired": {"$version": 1}, "reported": {"$version": 1}}
    node.ask("listen")
    site.running.patch("d1", {"rate": 5}, module="m")
    assert node.until(2)["rate"] == 5
    node.ask("report", change={"rate": 5})
    assert site.running.hub.fleet.twin("d1", module="m").reported.values == {"rate": 5}
    node.ask("methods", status=201)
    eventually(lambda: called(site, "d1", "m", {"x": 1}))
    node.ask("send", data="frame", output="frames", camera="3")
    assert [(one.module, one.output, one.body) for one in site.received()] == [("m", "frames", b"frame")]
    assert site.received()[0].properties["camera"] == "3"
    node.ask("messages")
    send(site, "d1", b"to input", module="m", input="in")
    heard = node.next("message")
    assert (heard["data"], heard["input"], heard["properties"]) == ("to input", "in", {"k": "v w"})
    eventually(lambda: not pending(site, "d1", "m"))


def test_the_hub_restarts_and_the_twin_changed_meanwhile(site):
    node = site.node("d1")
    node.ask("connect")
    node.ask("listen")
    node.ask("methods", status=201)
    eventually(lambda: called(site, "d1", "", 1))
    site.running.patch("d1", {"n": 1})
    node.until(2)
    change = {"properties": {"desired": {"n": 2}}}
    restart(site, lambda: site.running.hub.fleet.change_twin("d1", change, None, replace=False))
    assert node.until(3)["n"] == 2  # it neither subscribes again nor asks: the hub remembered
    eventually(lambda: called(site, "d1", "", 2))
    site.running.patch("d1", {"n": 3})
    assert node.until(4)["n"] == 3


def test_a_token_of_8_seconds_is_renewed(site, monkeypatch):
    connected, entered = site.running.hub.connected, []
    enter = connected.enter
    monkeypatch.setattr(connected, "enter", lambda who, client: (entered.append(who), enter(who, client)))
    node = site.node("d1", tokenRenewal={"tokenValidTimeInSeconds": 8, "tokenRenewalMarginInSeconds": 4})
    node.ask("connect")
    node.ask("listen")
    eventually(lambda: len(entered) > 2)  # each time with a new token, and without subscribing again
    site.running.patch("d1", {"n": 1})
    assert node.until(2)["n"] == 1


def test_what_it_may_not(site):
    node = site.node("d1")
    node.ask("connect")
    node.ask("get_twin")
    assert "twin key 'bad.key'" in node.try_("report", change={"bad.key": 1})["text"]
    assert site.running.hub.fleet.twin("d1").reported.values == {}
    stranger = site.node("d1", key="bm90IHRoZSBrZXk=")
    assert stranger.try_("connect")["error"] == "UnauthorizedError"


@pytest.mark.parametrize("scheme", ["http", "unix"])
def test_an_edge_module_starts_by_the_workload_api(site, scheme):
    with module_environment(site, scheme) as (environment, asked):
        node = site.bare("node", **environment)
        node.ask("create", edge=True, websockets=site.websockets)
        node.ask("connect")
        node.ask("send", data="x", output="out")
    assert [(one.module, one.output) for one in site.received()] == [("m", "out")]
    assert asked == ["m"]


def test_an_edge_module_starts_by_a_connection_string(site):
    key = site.running.identity("d1") and site.running.identity("d1", "m")
    string = f"HostName=localhost;GatewayHostName={site.address};DeviceId=d1;ModuleId=m;SharedAccessKey={key}"
    node = site.bare("node", EdgeHubConnectionString=string, EdgeModuleCACertificateFile=str(site.ca))
    node.ask("create", edge=True, websockets=site.websockets)
    node.ask("connect")
    node.ask("send", data="x", output="out")
    assert [(one.module, one.output) for one in site.received()] == [("m", "out")]


def test_a_gateway_with_a_port_of_its_own(tmp_path):
    with contextlib.ExitStack() as stack:
        port = free_port()
        site = Site(tmp_path, stack, iothub_port=port)
        gateway = f";GatewayHostName={site.address}:{port}"
        string = site.string("d1").replace(site.address, "localhost") + gateway
        node = site.bare("node")
        node.ask("create", connection_string=string, ca=str(site.ca))
        node.ask("connect")
        node.ask("send", data="hello")
        assert [one.body for one in site.received()] == [b"hello"]
