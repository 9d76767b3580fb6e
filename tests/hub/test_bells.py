import asyncio

from farshore.hub.bells import Bells


def test_only_who_is_meant_is_woken():
    async def walk():
        bells = Bells(limit=10)
        with bells.listen("a") as one, bells.listen("a") as two, bells.listen("b") as other:
            bells.ring("a")
            assert (one.is_set(), two.is_set(), other.is_set()) == (True, True, False)
            bells.ring_all()
            assert other.is_set()
            bells.ring("nobody")

    asyncio.run(walk())


def test_there_is_a_limit_and_places_come_free():
    async def walk():
        bells = Bells(limit=1)
        with bells.listen("a") as one, bells.listen("b") as none:
            assert one is not None and none is None
        with bells.listen("b") as free:
            assert free is not None
        bells.close()
        with bells.listen("a") as late:
            assert late is None

    asyncio.run(walk())


def test_closing_wakes_all():
    async def walk():
        bells = Bells(limit=5)
        with bells.listen("a") as one:
            bells.close()
            assert one.is_set() and bells.closed

    asyncio.run(walk())


def test_many_come_back_over_some_time():
    async def walk():
        bells = Bells(limit=100_000)
        assert bells.spread == 0
        waiting = [bells.listen("a") for _ in range(1000)]
        for one in waiting:
            one.__enter__()
        assert bells.spread == 2
        for one in waiting:
            one.__exit__(None, None, None)
        assert bells.spread == 0

    asyncio.run(walk())
