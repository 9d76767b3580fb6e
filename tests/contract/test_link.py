"""What every link to a hub must do: the one over HTTP, and the simulated one that other tests rely on."""

from __future__ import annotations

import pytest
from msgspec import convert
from tests.sim.clock import VirtualClock
from tests.sim.devices import bearer_of, enrol_body, renew_body
from tests.sim.http_face import HttpFace
from tests.sim.hub import SimHub
from tests.sim.links import SimLink
from tests.sim.releases import release

from farshore.agent.http_link import HttpLink
from farshore.core.errors import Conflict, Denied, NotFound, Unauthenticated
from farshore.core.wire import ChallengeRequest, EnrolRequest, RenewRequest, SyncRequest, TicketRequest

CREDENTIAL = "credential-credential"
ABSENT = "sha256:" + "0" * 64


@pytest.fixture(params=["http", "simulated"])
def ways(request):
    """A hub, and a way to make links to it."""
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


def test_enrolling_twice_with_the_same_credential(hub, ways):
    link, asked = ways[1](None), convert(enrol_body("e", "token-token-token-token"), EnrolRequest)
    assert link.enrol(asked) == link.enrol(asked)
    assert [bytes(one) for one in link.enrol(asked).roots] == hub.repo.roots
    with pytest.raises(Denied):
        link.enrol(convert(enrol_body("f", "token-token-token-token"), EnrolRequest))


def test_renewal(hub, ways):
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
    assert hub.twins["d"].reported.values == {"a": {}, "c": [1, "ü"]}
    assert link.sync(SyncRequest(seen=reply.desired["$version"])).desired is None


def test_a_stranger(ways):
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


def test_refusals(hub, link, version):
    digest, data = largest(version)
    with pytest.raises(NotFound):
        link.tickets(TicketRequest(ABSENT))
    url = link.tickets(TicketRequest(digest)).routes[-1].url
    with pytest.raises(Conflict):
        link.fetch(url, len(data))
    hub.tickets_last = 1
    url = link.tickets(TicketRequest(digest)).routes[-1].url
    read(link.fetch(url, 0), 65536)
    with pytest.raises(Denied):
        link.fetch(url, 0)
