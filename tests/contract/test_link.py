"""What every link to a hub must do: the one over HTTP, the one over an IoT Hub, and the simulated one that other tests rely on."""

from __future__ import annotations

import time
import uuid
from functools import partial

import pytest
from msgspec import convert
from tests.azurite import Azurite
from tests.hub.iothub.face import Face
from tests.sim.azure import MODULE, AzureWorld
from tests.sim.clock import VirtualClock
from tests.sim.devices import bearer_of, enrol_body, renew_body
from tests.sim.http_face import HttpFace
from tests.sim.hub import SimHub
from tests.sim.iothub import SimIotHub, SimLine
from tests.sim.links import SimLink
from tests.sim.releases import release

from farshore.agent.azure_link import AzureLink
from farshore.agent.http_link import HttpLink
from farshore.core.errors import Conflict, Denied, NotFound, Unauthenticated
from farshore.core.wire import ChallengeRequest, EnrolRequest, RenewRequest, SyncRequest, TicketRequest

CREDENTIAL = "credential-credential"
ABSENT = "sha256:" + "0" * 64


class AzureHub(SimHub):
    """One whose devices ask an IoT Hub and a container: what changes is published there."""

    world: AzureWorld

    def publish(self, release):
        super().publish(release)
        self.desire("d", release)  # nothing else is given out there
        return release

    def desire(self, device, *releases, **extra):
        super().desire(device, *releases, **extra)
        self.world.publish(device)

    @property
    def told(self):
        found = self.world.iothub.twin("d", MODULE)["properties"]["reported"]
        return {key: value for key, value in found.items() if not key.startswith("$") and key != "farshore"}

    def run_out(self):
        self.world.answerer.seconds = 1


@pytest.fixture(scope="module")
def azurite(tmp_path_factory):
    with Azurite(tmp_path_factory.mktemp("azurite")) as found:
        yield found


@pytest.fixture
def azure(azurite, tmp_path, monkeypatch, request):
    """Links through an IoT Hub in memory, and Blob Storage."""
    for name, value in azurite.environment.items():
        monkeypatch.setenv(name, value)
    hub, iothub = AzureHub(), SimIotHub()
    hub.add_device("d", CREDENTIAL)
    iothub.put_module("d", MODULE)
    container = azurite.container(f"c{uuid.uuid4().hex}")
    with AzureWorld(hub, iothub, container, tmp_path) as hub.world:
        hub.world.publish("d")
        yield hub, lambda _credential: AzureLink("h.example", "d", partial(SimLine, iothub, "d", MODULE))


@pytest.fixture
def azure_sdk(azurite, tmp_path, monkeypatch):
    """The same by Microsoft's SDK, through the hub's own IoT Hub face."""
    for name, value in azurite.environment.items():
        monkeypatch.setenv(name, value)
    face, hub = Face(tmp_path), AzureHub()
    try:
        hub.add_device("d", CREDENTIAL)
        connection = face.connection("d")
        with AzureWorld(hub, face, azurite.container(f"c{uuid.uuid4().hex}"), tmp_path) as hub.world:
            hub.world.publish("d")
            yield hub, lambda _credential: face.link(connection)
    finally:
        face.close()


@pytest.fixture(params=["http", "simulated", "azure", "azure_sdk"])
def ways(request):
    """A hub, and a way to make links to it."""
    if request.param.startswith("azure"):
        yield request.getfixturevalue(request.param)
        return
    hub = SimHub()
    hub.add_device("d", CREDENTIAL)
    if request.param == "simulated":
        yield hub, lambda credential: SimLink(hub, VirtualClock(), credential)
        return
    with HttpFace(hub) as face:
        links = []

        def make(credential):
            links.append(HttpLink(face.url, credential))
            return links[-1]

        yield hub, make
        for link in links:
            link.close()


@pytest.fixture
def hub(ways):
    return ways[0]


@pytest.fixture
def link(ways):
    return ways[1](CREDENTIAL)


@pytest.fixture
def version(hub):
    return hub.publish(release(size=100_000))


def largest(version):
    return max(version.blobs.items(), key=lambda item: len(item[1]))


def read(body, limit):
    pieces = []
    while piece := body.read(limit):
        assert len(piece) <= limit
        pieces.append(piece)
    body.close()
    return b"".join(pieces)


def told(hub):
    """What device d said."""
    return hub.told if isinstance(hub, AzureHub) else hub.twins["d"].reported.values


def by_bearer(ways):
    if isinstance(ways[0], AzureHub):
        pytest.skip("devices of an IoT Hub have its keys, and no bearer: see test_an_iot_hub_keeps_the_keys")


def test_an_iot_hub_keeps_the_keys(azure):
    hub, make = azure
    link = make(None)
    asked = convert(enrol_body("d"), EnrolRequest)
    assert link.enrol(asked) == link.enrol(asked)
    assert [bytes(one) for one in link.enrol(asked).roots] == hub.repo.roots
    for refused in (
        lambda: link.enrol(convert(enrol_body("e"), EnrolRequest)),
        lambda: link.challenge(ChallengeRequest("d")),
        lambda: link.renew(convert(renew_body("d", 0, "challenge-challenge", "the-next-bearer-of-d"), RenewRequest)),
    ):
        with pytest.raises(Conflict):
            refused()


def test_enrolling_twice_with_the_same_credential(hub, ways):
    by_bearer(ways)
    link, asked = ways[1](None), convert(enrol_body("e", "token-token-token-token"), EnrolRequest)
    assert link.enrol(asked) == link.enrol(asked)
    assert [bytes(one) for one in link.enrol(asked).roots] == hub.repo.roots
    with pytest.raises(Denied):
        link.enrol(convert(enrol_body("f", "token-token-token-token"), EnrolRequest))


def test_renewal(hub, ways):
    by_bearer(ways)
    link = ways[1](None)
    link.enrol(convert(enrol_body("e", "token-token-token-token"), EnrolRequest))
    challenge = link.challenge(ChallengeRequest("e")).challenge
    asked = convert(renew_body("e", 0, challenge, "the-next-bearer-of-e"), RenewRequest)
    assert link.renew(asked).turn == 1
    with pytest.raises(Unauthenticated):
        link.renew(asked)  # that challenge was answered
    link.credential = "the-next-bearer-of-e"
    assert link.sync(SyncRequest()).retry > 0
    link.credential = bearer_of("e")
    with pytest.raises(Unauthenticated):
        link.sync(SyncRequest())


def test_sync(hub, link, version):
    hub.desire("d", version)
    reply = link.sync(SyncRequest(reported={"a": {"b": None}, "c": [1, "ü"]}))
    assert reply.desired["models"]["detector"]["digest"] == version.digest
    assert told(hub) == {"a": {}, "c": [1, "ü"]}
    assert link.sync(SyncRequest(seen=reply.desired["$version"])).desired is None


def test_a_stranger(ways):
    by_bearer(ways)
    with pytest.raises(Unauthenticated):
        ways[1]("credential-of-a-stranger").sync(SyncRequest())


def test_manifests(link, version):
    assert link.manifest(version.digest) == version.payload
    with pytest.raises(NotFound):
        link.manifest(ABSENT)


@pytest.mark.parametrize("limit", [1000, 65536, 1 << 20])
@pytest.mark.parametrize("start", [0, 1, 65536, 99_999])
def test_objects_from_any_byte(link, version, start, limit):
    digest, data = largest(version)
    route = link.tickets(TicketRequest(digest)).routes[-1]
    assert (route.digest, route.size, route.kind) == (digest, len(data), "whole")
    body = link.fetch(route.url, start)
    assert (body.start, body.total) == (start, len(data))
    assert read(body, limit) == data[start:]


def test_a_body_may_be_left_unread(link, version):
    digest, data = largest(version)
    for _ in range(3):
        body = link.fetch(link.tickets(TicketRequest(digest)).routes[-1].url, 0)
        assert body.read(10) == data[:10]
        body.close()


def fetch_for_ever(link, url):
    for _ in range(600):
        read(link.fetch(url, 0), 65536)
        time.sleep(0.05)


def test_refusals(hub, link, version):
    digest, data = largest(version)
    with pytest.raises(NotFound):
        link.tickets(TicketRequest(ABSENT))
    url = link.tickets(TicketRequest(digest)).routes[-1].url
    with pytest.raises(Conflict):
        link.fetch(url, len(data))
    hub.run_out()
    url = link.tickets(TicketRequest(digest)).routes[-1].url
    with pytest.raises(Denied):
        fetch_for_ever(link, url)
