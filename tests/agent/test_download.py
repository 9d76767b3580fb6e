"""One file on its way, with a hub and a link that get everything wrong that can be got wrong."""

from __future__ import annotations

import pytest
from tests.sim.clock import VirtualClock
from tests.sim.hub import SimHub
from tests.sim.links import SimLink
from tests.sim.releases import noise

from farshore.agent.download import Transfer
from farshore.agent.pace import Pace
from farshore.core import digest as digests
from farshore.core.errors import Corrupt, Denied, NotFound, Unavailable
from farshore.core.wire import Route, TicketReply
from farshore.store.blobs import CHUNK, Blobs

DATA = noise(300_000, "data")
NAME = digests.of(DATA)
FOREVER = 1e9


class Bench:
    """A hub with one object, and transfers of it."""

    def __init__(self, folder):
        self.clock, self.hub, self.blobs = VirtualClock(), SimHub(), Blobs(folder)
        self.link = SimLink(self.hub, self.clock)
        self.hub.add_device("d", self.link.credential)
        self.hub.objects[NAME] = DATA

    def transfer(self, **more):
        more = {"blobs": self.blobs, "link": self.link, "pace": Pace(None, self.clock), "clock": self.clock, **more}
        return Transfer(NAME, len(DATA), **more)

    def arrives(self, **more):
        transfer = self.transfer(**more)
        assert transfer.run(FOREVER)
        transfer.close()
        assert self.blobs.path(NAME).read_bytes() == DATA
        return transfer


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path / "blobs")


def test_whole(bench):
    assert bench.arrives().fetched == len(DATA)
    assert bench.hub.count("tickets") == bench.hub.count("object") == 1


def test_what_is_here_costs_nothing(bench):
    bench.blobs.add(DATA)
    assert bench.arrives().fetched == 0
    assert bench.hub.log == []


def test_slices_cost_no_byte_and_no_request(bench):
    bench.link.rate = 100_000
    transfer, slices = bench.transfer(), 0
    while not transfer.run(bench.clock.monotonic() + 0.5):
        slices += 1
    assert slices >= 3
    assert transfer.fetched == len(DATA)
    assert bench.hub.count("object") == 1


@pytest.mark.parametrize("cut", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 200_000, len(DATA) - 1])
def test_it_goes_on_where_it_was_cut(bench, cut):
    bench.link.cuts = [cut]
    first = bench.transfer()
    with pytest.raises(Unavailable):
        first.run(FOREVER)
    first.close()
    assert first.fetched == cut
    again = bench.arrives()
    assert first.fetched + again.fetched < len(DATA) + CHUNK
    assert bench.hub.count("tickets") == 2  # each attempt has a fresh one


def test_an_early_end_that_looks_like_the_end(bench, monkeypatch):
    original = bench.link.fetch

    def short(url, start):
        body = original(url, start)
        body._data = body._data[:1000]
        return body

    with monkeypatch.context() as patch:
        patch.setattr(bench.link, "fetch", short)
        with pytest.raises(Unavailable, match="ended after 1000"):
            bench.transfer().run(FOREVER)
    bench.arrives()


def test_too_many_bytes_are_refused(bench, monkeypatch):
    original = bench.link.fetch

    def long(url, start):
        body = original(url, start)
        body._data += b"more"
        return body

    monkeypatch.setattr(bench.link, "fetch", long)
    with pytest.raises(Corrupt):
        bench.transfer().run(FOREVER)
    assert bench.blobs.used() == 0


def test_a_ticket_that_runs_out_is_replaced(bench):
    bench.hub.tickets_last = 1
    bench.link.rate = 10_000
    bench.link.cuts = [100_000]
    transfer = bench.transfer()
    with pytest.raises(Unavailable):
        transfer.run(FOREVER)
    assert transfer.run(FOREVER)


def test_a_refused_ticket_is_replaced_once(bench, monkeypatch):
    refusals = []
    original = bench.link.fetch

    def refuse(url, start):
        if len(refusals) < 1:
            refusals.append(url)
            raise Denied("run out")
        return original(url, start)

    monkeypatch.setattr(bench.link, "fetch", refuse)
    bench.arrives()
    assert bench.hub.count("tickets") == 2


def test_a_hub_that_refuses_its_own_tickets(bench, monkeypatch):
    def refuse(url, start):
        raise Denied("never")

    monkeypatch.setattr(bench.link, "fetch", refuse)
    with pytest.raises(Unavailable, match="fresh ticket"):
        bench.transfer().run(FOREVER)
    assert bench.hub.count("tickets") == 2


def test_an_object_that_has_gone(bench, monkeypatch):
    def gone(url, start):
        raise NotFound("gone")

    monkeypatch.setattr(bench.link, "fetch", gone)
    with pytest.raises(Unavailable, match="no longer"):
        bench.transfer().run(FOREVER)


@pytest.mark.parametrize(("start", "total"), [(5, None), (0, 299_999), (70_000, 300_000)])
def test_an_offer_that_does_not_fit_costs_no_byte(bench, monkeypatch, start, total):
    original = bench.link.fetch

    def odd(url, asked):
        body = original(url, asked)
        body.start, body.total = start, total
        return body

    monkeypatch.setattr(bench.link, "fetch", odd)
    transfer = bench.transfer()
    with pytest.raises(Unavailable, match="no route"):
        transfer.run(FOREVER)
    assert transfer.fetched == 0


def test_without_ranges_what_is_here_is_skipped(bench):
    bench.link.cuts = [CHUNK * 2]
    with pytest.raises(Unavailable):
        bench.transfer().run(FOREVER)
    bench.link.ranges = False
    bench.arrives()


def test_wrong_bytes(bench):
    bench.hub.objects[NAME] = noise(len(DATA), "other")
    with pytest.raises(Corrupt, match="no route"):
        bench.transfer().run(FOREVER)
    assert bench.blobs.used() == 0
    bench.hub.objects[NAME] = DATA
    bench.arrives()


def test_a_beginning_that_turns_out_wrong_is_fetched_again(bench):
    with bench.blobs.partial(NAME, len(DATA)) as partial:
        partial.append(noise(CHUNK * 2, "wrong"))
    with pytest.raises(Corrupt):
        bench.transfer().run(FOREVER)
    assert bench.arrives().fetched == len(DATA)


@pytest.mark.parametrize(
    "routes",
    [
        (Route("/x", digests.of(b"other"), len(DATA)),),
        (Route("/x", NAME, len(DATA) - 1),),
        (Route("/x", digests.of(b"p"), 10, "patch"),),
    ],
)
def test_a_ticket_that_names_something_else_is_not_followed(bench, monkeypatch, routes):
    monkeypatch.setattr(bench.link, "tickets", lambda _request: TicketReply(routes, 600))
    with pytest.raises(Unavailable, match="no route"):
        bench.transfer().run(FOREVER)
    assert bench.hub.count("object") == 0


def test_a_trickle_is_given_up(bench):
    bench.link.rate = 20
    transfer = bench.transfer(minimum_rate=64, pace=Pace(1000, bench.clock))
    with pytest.raises(Unavailable, match="too slow"):
        transfer.run(FOREVER)
    assert transfer.fetched < 4000


def test_our_own_cap_is_no_trickle(bench):
    bench.arrives(minimum_rate=64, pace=Pace(50, bench.clock))


class TestPatches:
    """A patch here is the head of the target; applying it adds what the base knows."""

    BASE = noise(100, "base")
    PATCH = DATA[:5000]

    @pytest.fixture
    def offer(self, bench):
        bench.blobs.add(self.BASE)
        bench.hub.objects[digests.of(self.PATCH)] = self.PATCH
        route = Route("", digests.of(self.PATCH), len(self.PATCH), "patch", (digests.of(self.BASE),))
        bench.hub.patches[NAME] = [route]
        return bench

    @staticmethod
    def apply(patch, bases):
        assert [base.read_bytes() for base in bases] == [TestPatches.BASE]
        head = patch.read_bytes()
        for at in range(0, len(DATA), 7000):
            yield (head + DATA[len(head) :])[at : at + 7000]

    def test_it_is_fetched_instead_of_the_whole(self, offer):
        assert offer.arrives(apply=self.apply).fetched == len(self.PATCH)
        assert set(offer.blobs.digests()) == {NAME, digests.of(self.BASE)}

    def test_what_is_here_of_the_whole_is_kept(self, offer):
        with offer.blobs.partial(NAME, len(DATA)) as partial:
            partial.append(DATA[: CHUNK * 2])
        assert offer.arrives(apply=self.apply).fetched == len(self.PATCH)

    def test_a_whole_that_is_nearly_here_beats_it(self, offer):
        with offer.blobs.partial(NAME, len(DATA)) as partial:
            partial.append(DATA[: CHUNK * 4])
        short = noise(len(DATA) - CHUNK * 4 + 1, "patch")
        offer.hub.objects[digests.of(short)] = short
        route = Route("", digests.of(short), len(short), "patch", (digests.of(self.BASE),))
        offer.hub.patches[NAME] = [route]
        assert offer.arrives(apply=self.apply).fetched == len(DATA) - CHUNK * 4

    def test_it_resumes(self, offer):
        offer.link.cuts = [3000]
        with pytest.raises(Unavailable):
            offer.transfer(apply=self.apply).run(FOREVER)
        offer.arrives(apply=self.apply)

    @pytest.mark.parametrize("fault", ["wrong", "short", "long", "refused", "refused late"])
    def test_a_decoder_that_fails_leaves_the_whole(self, offer, fault):
        def apply(patch, bases):
            if fault == "refused":
                raise Corrupt("not a patch")
            yield from {"wrong": [noise(len(DATA), "w")], "short": [DATA[:-1]], "long": [DATA, b"x"]}.get(
                fault, [DATA[:CHUNK], b"?" * CHUNK]
            )
            if fault == "refused late":
                raise Corrupt("not a patch")

        assert offer.arrives(apply=apply).fetched == len(self.PATCH) + len(DATA)
        assert set(offer.blobs.digests()) == {NAME, digests.of(self.BASE)}

    @pytest.mark.parametrize("fault", [MemoryError("no room"), ValueError("a fault of ours")])
    def test_a_decoder_that_breaks_leaves_the_whole(self, offer, fault):
        def apply(patch, bases):
            yield DATA[:CHUNK]
            raise fault

        assert offer.arrives(apply=apply).fetched == len(self.PATCH) + len(DATA)
        assert set(offer.blobs.digests()) == {NAME, digests.of(self.BASE)}

    @pytest.mark.parametrize("stop", [KeyboardInterrupt(), Unavailable("disk full")])
    def test_a_stop_in_the_middle_costs_no_byte_again(self, offer, stop):
        def apply(patch, bases):
            yield DATA[: 2 * CHUNK]
            raise stop

        with pytest.raises(type(stop)):
            offer.transfer(apply=apply).run(FOREVER)
        assert digests.of(self.PATCH) in offer.blobs.digests()
        moved = offer.link.moved
        offer.arrives(apply=self.apply)
        assert offer.link.moved == moved
        assert set(offer.blobs.digests()) == {NAME, digests.of(self.BASE)}

    def test_one_that_the_hub_has_lost_leaves_the_whole(self, offer):
        del offer.hub.objects[digests.of(self.PATCH)]
        assert offer.arrives(apply=self.apply).fetched == len(DATA)
        assert offer.hub.count("tickets") == 2

    def test_it_needs_room_beside_what_it_makes(self, offer):
        both = len(self.PATCH) + len(DATA)
        assert offer.arrives(apply=self.apply, room=lambda: both - 1).fetched == len(DATA)
        offer.blobs.remove(NAME)
        assert offer.arrives(apply=self.apply, room=lambda: both).fetched == len(self.PATCH)

    def test_room_is_not_asked_for_again_while_it_arrives(self, offer):
        answers = [1 << 40]
        transfer = offer.transfer(
            apply=self.apply, room=lambda: answers.pop() if answers else 0, pace=Pace(1000, offer.clock)
        )
        slices = 1
        while not transfer.run(0.0):
            slices += 1
        assert slices > 1
        assert transfer.fetched == len(self.PATCH)

    def test_without_a_decoder_or_a_base_it_is_not_fetched(self, offer):
        assert offer.arrives().fetched == len(DATA)

    def test_a_patch_as_large_as_the_whole_is_not_fetched(self, offer, monkeypatch):
        base = digests.of(self.BASE)
        whole = offer.link.tickets
        big = Route("/x", digests.of(b"p"), len(DATA), "patch", (base,))
        monkeypatch.setattr(offer.link, "tickets", lambda request: TicketReply((big, whole(request).routes[-1]), 600))
        assert offer.arrives(apply=self.apply).fetched == len(DATA)
