"""Many small writes in few transactions: each has its own outcome, all are durable when they return."""

import asyncio

import pytest
from sqlalchemy import event

from farshore.core.errors import Conflict, NotFound, Unavailable
from farshore.hub.hub import Hub
from farshore.hub.iothub.batch import Batch
from farshore.hub.records import changes, subscriptions
from farshore.hub.records.subscriptions import Subscriptions
from farshore.hub.settings import Settings


@pytest.fixture
def hub(tmp_path):
    found = Hub(Settings(data=tmp_path / "hub", builders=0))
    yield found
    found.close()


def count(hub):
    with hub.database.reading() as tx:
        return changes.newest(tx)


def add(tx):
    changes.add(tx, "test", "x", 1.0)


def test_what_comes_meanwhile_goes_together(hub):
    begun, before = [], count(hub)
    event.listen(hub.database.engine, "begin", lambda _: begun.append(1))

    async def many():
        batch = Batch(hub)
        await asyncio.gather(*(batch.do(add) for _ in range(1200)))

    asyncio.run(many())
    assert count(hub) == before + 1200
    assert len(begun) < 10


def test_one_that_fails_takes_no_other_with_it(hub):
    before = count(hub)

    def refuse(tx):
        add(tx)
        raise NotFound("not there")

    def break_a_reference(tx):
        add(tx)
        subscriptions.put(tx, "nobody", "", Subscriptions())

    async def three():
        batch = Batch(hub)
        return await asyncio.gather(
            *(batch.do(job) for job in (add, refuse, break_a_reference, add)), return_exceptions=True
        )

    found = asyncio.run(three())
    assert [type(one) for one in found] == [type(None), NotFound, Conflict, type(None)]
    assert count(hub) == before + 2


def test_a_disk_that_is_full_is_told_to_all_of_them(hub, monkeypatch):
    def full(*_):
        raise Unavailable("the disk is full")

    async def some():
        batch = Batch(hub)
        monkeypatch.setattr(Batch, "_together", full)
        first = await asyncio.gather(batch.do(add), batch.do(add), return_exceptions=True)
        monkeypatch.undo()
        await batch.do(add)
        return first

    before = count(hub)
    assert [type(one) for one in asyncio.run(some())] == [Unavailable, Unavailable]
    assert count(hub) == before + 1


def test_who_hung_up_meanwhile_is_not_waited_for(hub):
    async def leave():
        batch = Batch(hub)
        task = asyncio.create_task(batch.do(add))
        await asyncio.sleep(0)
        task.cancel()
        await batch.do(add)

    before = count(hub)
    asyncio.run(leave())
    assert count(hub) == before + 2
