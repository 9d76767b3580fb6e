"""Small writes of many clients, in as few transactions as there is time for: each costs the disk a sync, however little is in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from farshore.core.errors import Conflict, FarshoreError
from farshore.hub.hub import Hub

T = TypeVar("T")
Job = Callable[[Connection], Any]
MOST = 500
"""Jobs in one transaction."""


class Batch:
    """Writes that came while another transaction was on its way go into the next one together. Used from the event loop only.

    Args:
        hub: whose database.

    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._queue: list[tuple[Job, asyncio.Future[Any]]] = []
        self._running: asyncio.Task[None] | None = None

    async def do(self, job: Callable[[Connection], T]) -> T:
        """Run ``job`` in a transaction, and return when that is durable. One that fails takes no other with it.

        Raises:
            FarshoreError: the job's own, or the database's.

        """
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.append((job, done))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await done

    async def _run(self) -> None:
        try:
            while self._queue:
                batch, self._queue = self._queue[:MOST], self._queue[MOST:]
                await self._write(batch)
        finally:
            self._running = None

    async def _write(self, batch: list[tuple[Job, asyncio.Future[Any]]]) -> None:
        try:
            results = await self._hub.threads(self._together, [job for job, _ in batch])
        except BaseException as error:
            for _, done in batch:
                if not done.done():
                    done.set_exception(error if isinstance(error, FarshoreError) else FarshoreError(str(error)))
            if isinstance(error, FarshoreError):
                return
            raise
        for (_, done), result in zip(batch, results, strict=True):
            if done.done():  # who asked hung up meanwhile
                continue
            if isinstance(result, FarshoreError):
                done.set_exception(result)
            else:
                done.set_result(result)

    def _together(self, jobs: Sequence[Job]) -> list[Any]:
        results: list[Any] = []
        with self._hub.database.writing() as tx:
            for job in jobs:
                try:
                    with tx.begin_nested():
                        results.append(job(tx))
                except FarshoreError as error:
                    results.append(error)
                except IntegrityError as error:  # what it is about was deleted meanwhile
                    results.append(Conflict(f"database: {error.orig}"))
        return results
