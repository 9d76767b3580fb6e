"""A whole agent at an IoT Hub: the one in memory, with Blob Storage (Azurite). What the link itself must do is in ``tests/contract``."""

from __future__ import annotations

import os
import random
import uuid
from functools import partial

import pytest
from msgspec import Raw
from msgspec.structs import replace
from tests.azurite import Azurite
from tests.hub.iothub.face import Face
from tests.sim.azure import MODULE, AzureWorld
from tests.sim.clock import VirtualClock
from tests.sim.devices import enrol_body
from tests.sim.hub import SimHub
from tests.sim.iothub import SimIotHub, SimLine
from tests.sim.releases import release

from farshore.agent import azure_line, identity, loop
from farshore.agent.azure_link import AzureLink
from farshore.agent.settings import Settings
from farshore.core import dispatch as dispatches
from farshore.core import documents, invitation
from farshore.core.errors import Denied, Invalid, NotFound, Unauthenticated, Unavailable
from farshore.core.wire import EnrolRequest, SyncRequest
from farshore.store.slots import Slots
from farshore.trust.metadata import pin_of


@pytest.fixture(scope="module")
def azurite(tmp_path_factory):
    with Azurite(tmp_path_factory.mktemp("azurite")) as found:
        yield found


@pytest.fixture
def world(azurite, tmp_path, monkeypatch):
    for name, value in azurite.environment.items():
        monkeypatch.setenv(name, value)
    hub, iothub = SimHub(), SimIotHub()
    hub.add_device("d", "credential-credential")
    iothub.put_module("d", MODULE)
    with AzureWorld(hub, iothub, azurite.container(f"c{uuid.uuid4().hex}"), tmp_path) as made:
        yield made


def link_to(world, patience=30.0):
    return AzureLink("h.example", "d", partial(SimLine, world.iothub, "d", MODULE), patience=patience)


class Device:
    """An agent on a folder of its own; ``settle`` lets it do what there is to do."""

    def __init__(self, world, root, token="", link=None):
        self.world, self.clock, self.root = world, VirtualClock(), root
        self.settings = Settings(
            root=root, link="azure", hub="https://h.example", serve="none", keep_free=0, trial=0.0, poll=1.0
        )
        self.link = link or link_to(world)
        self.who = identity.enrol(self.settings, token, "d", self.link)
        self.agent = loop.build(self.settings, self.who, self.link, self.clock, random.Random(1))
        self.agent.start("boot")

    def settle(self):
        for _ in range(200):
            if not self.agent.turn(hold=False):
                self.clock.sleep(40)
                if not self.agent.turn(hold=False):
                    return

    @property
    def runs(self):
        found = Slots(self.root).current("detector")
        return None if found is None else found.version

    @property
    def says(self):
        return self.world.iothub.modules["d", MODULE].reported.values


@pytest.fixture
def device(world, tmp_path):
    world.hub.desire("d")
    world.publish("d")
    return Device(world, tmp_path / "d")


def told(world, version):
    world.hub.publish(version)
    world.hub.desire("d", version)
    return world.publish("d")


def test_a_version_comes_and_is_reported(world, device):
    told(world, release())
    device.settle()
    assert device.runs == 1
    assert device.says["models"]["detector"]["current"]["version"] == 1
    assert "ask" not in device.says["farshore"]


def test_away_for_two_changes_it_takes_the_newest_alone(world, device):
    told(world, release())
    device.settle()
    world.iothub.up = False
    told(world, release(version=2))
    device.settle()
    newest = told(world, release(version=3))
    device.settle()
    assert device.runs == 1
    world.iothub.up = True
    device.clock.sleep(3600)
    device.settle()
    assert device.runs == 3
    assert world.answerer._dispatch("d").number == newest.number
    size = device.says["models"]["detector"]["fetched"]
    assert size < 2.5 * release().size  # the one in between was never fetched


def test_by_the_sdk_away_for_two_changes_cut_off_and_over_a_restart_of_the_iot_hub(azurite, tmp_path, monkeypatch):
    """Microsoft's SDK, against the hub's own IoT Hub face."""
    for name, value in azurite.environment.items():
        monkeypatch.setenv(name, value)
    hub, face = SimHub(), Face(tmp_path)
    hub.add_device("d", "credential-credential")
    try:
        connection = face.connection("d")
        with AzureWorld(hub, face, azurite.container(f"c{uuid.uuid4().hex}"), tmp_path) as world:
            hub.desire("d")
            world.publish("d")
            device = Device(world, tmp_path / "d", link=face.link(connection))
            told(world, release())
            device.settle()
            assert device.runs == 1
            face.cut("d", MODULE)
            told(world, release(version=2))
            told(world, release(version=3))
            device.clock.sleep(3600)
            device.settle()
            assert device.runs == 3
            face.restart()
            told(world, release(version=4))
            device.clock.sleep(3600)
            device.settle()
            assert device.runs == 4
            reported = face.twin("d", MODULE)["properties"]["reported"]
            assert reported["models"]["detector"]["current"]["version"] == 4
    finally:
        face.close()


def spoil(world, dispatch):
    world.store.write(dispatches.name_of("d"), documents.encode(dispatch))
    world.iothub.patch_twin("d", MODULE, {"properties": {"desired": {"farshore": {"dispatch": dispatch.number}}}})


@pytest.mark.parametrize(
    ("attack", "says"),
    [
        ("section", "about another desired section"),
        ("another device's order", "is for e, not for d"),
        ("an older order", "is older than"),
        ("a stranger's order", "signed by 0 trusted keys"),
        ("metadata", "detector: metadata of model/detector"),
        ("cut off", "about another desired section"),
    ],
)
def test_whoever_holds_iot_hub_and_container_makes_nothing_run(world, device, attack, says, caplog):
    first = told(world, release())
    device.settle()
    world.hub.publish(release(version=2))
    world.hub.desire(
        "d", world.hub.releases[next(d for d, one in world.hub.releases.items() if one.manifest.version == 2)]
    )
    (good,) = world.publisher.publish(["d"], 0)
    repo, bad = world.hub.repo, good
    match attack:
        case "section":
            bad = replace(good, desired={**first.desired, "$version": good.desired["$version"]})
        case "another device's order":
            bad = replace(good, order=Raw(repo.order("e", good.desired)))
        case "an older order":
            bad = replace(
                first,
                number=good.number,
                order=Raw(repo.order("d", {**first.desired, "$version": 1})),
                desired={**first.desired, "$version": 1},
            )
        case "a stranger's order":
            repo.director_key = repo.targets_key
            bad = replace(good, order=Raw(repo.order("d", good.desired)))
        case "metadata":
            piece = good.metadata["model/detector"]
            other = world.store.put_bytes(b"{}")
            bad = replace(
                good, metadata={**good.metadata, "model/detector": replace(piece, digest=other, size=2, version=99)}
            )
        case "cut off":
            bad = replace(good, metadata={})
            bad = replace(bad, desired={"models": {}, "$version": good.desired["$version"] + 1})
    spoil(world, replace(bad, number=good.number + 1))
    device.settle()
    assert says in caplog.text
    assert device.runs == 1
    spoil(world, replace(good, number=good.number + 2))
    device.clock.sleep(3600)
    device.settle()
    assert device.runs == 2


def test_a_pin_tells_the_right_container(world, tmp_path):
    world.hub.desire("d")
    world.publish("d")
    right = str(invitation.Invitation("pinned-root-only", root=pin_of(world.hub.repo.roots[0])))
    wrong = str(invitation.Invitation("pinned-root-only", root=pin_of(b"another")))
    with pytest.raises(Denied, match="trust root"):
        Device(world, tmp_path / "wrong", wrong)
    assert Device(world, tmp_path / "right", right).who.device == "d"


def test_nothing_was_published_yet(world):
    with pytest.raises(Unavailable, match="farshore azure publish"):
        link_to(world).sync(SyncRequest())
    world.iothub.patch_twin("d", MODULE, {"properties": {"desired": {"farshore": {"dispatch": 7}}}})
    with pytest.raises(NotFound, match=r"dispatches/d\.json"):
        link_to(world).sync(SyncRequest())


def test_nobody_answers():
    iothub = SimIotHub()
    iothub.put_module("d", MODULE)
    iothub.patch_twin("d", MODULE, {"properties": {"desired": {"farshore": {"dispatch": 7}}}})
    link = AzureLink("h.example", "d", partial(SimLine, iothub, "d", MODULE), patience=0.2)
    with pytest.raises(Unavailable, match="farshore azure answer"):
        link.enrol(documents.convert(enrol_body("d"), EnrolRequest, what="x"))


@pytest.mark.parametrize(
    ("connection", "environ", "says"),
    [
        ("", {}, "IoT Edge module"),
        ("HostName=h;SharedAccessKey=topsecret", {}, "DeviceId missing"),
        ("", {"IOTEDGE_DEVICEID": "d"}, "IoT Edge module"),
    ],
)
def test_no_way_to_an_iot_hub(connection, environ, says):
    with pytest.raises(Invalid, match=says) as caught:
        azure_line.access(connection, environ, None)
    assert "topsecret" not in caught.value.message


def test_ways_to_an_iot_hub():
    text = "HostName=h;DeviceId=d;ModuleId=m;SharedAccessKey=a=b="
    assert azure_line.access(text, {}, None).module == "m"
    edge = {"IOTEDGE_IOTHUBHOSTNAME": "h", "IOTEDGE_DEVICEID": "d", "IOTEDGE_MODULEID": "m"}
    assert azure_line.access("", edge, None) == azure_line.Access("", "h", "d", "m")
    assert azure_line.access("", {"EdgeHubConnectionString": text}, None).connection == ""


def test_a_module_of_iot_edge_finds_its_way(tmp_path, monkeypatch):
    """By the environment that the runtime sets, through the SDK, to the hub's own IoT Hub face."""
    face = Face(tmp_path)
    try:
        monkeypatch.setenv("EdgeHubConnectionString", f"{face.connection('d')};GatewayHostName={face.host}")
        monkeypatch.setenv("EdgeModuleCACertificateFile", str(face.ca))
        line = azure_line.Line(azure_line.access("", os.environ, None), lambda _name, _payload: True)
        try:
            face.patch_twin("d", MODULE, {"properties": {"desired": {"farshore": {"dispatch": 7}}}})
            assert line.desired()["farshore"] == {"dispatch": 7}
            line.report({"here": True})
            assert face.twin("d", MODULE)["properties"]["reported"] == {"here": True}
            assert face.invoke("d", MODULE, "anything", {}) == 200
        finally:
            line.close()
    finally:
        face.close()


def test_a_change_before_the_first_reading_does_not_stand_for_the_twin(tmp_path):
    face = Face(tmp_path)
    try:
        line = azure_line.Line(azure_line.access(face.connection("d"), {}, face.ca), lambda _name, _payload: True)
        try:
            face.patch_twin("d", MODULE, {"properties": {"desired": {"farshore": {"dispatch": 7}}}})
            line._connect()
            line._on_patch({"other": 1, "$version": 2})  # as the SDK tells it, from its own thread
            assert line.desired()["farshore"] == {"dispatch": 7}
        finally:
            line.close()
    finally:
        face.close()


def test_a_key_that_is_refused(tmp_path):
    face = Face(tmp_path)
    try:
        wrong = face.connection("d").rpartition(";")[0] + ";SharedAccessKey=" + "A" * 43 + "="
        with pytest.raises(Unauthenticated, match="refuses this key"):
            face.link(wrong).sync(SyncRequest())
    finally:
        face.close()
    link = AzureLink(face.host, "d", partial(azure_line.Line, azure_line.access(wrong, {}, face.ca)))
    try:
        with pytest.raises(Unavailable):  # nobody listens there any more
            link.sync(SyncRequest())
    finally:
        link.close()
