"""The ledger: bytes and money by device, model, rollout and link, entered as devices report what they fetched."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from farshore.core import windows
from farshore.core.errors import Invalid, NotFound
from farshore.core.manifest import check_name
from farshore.core.wire import ReportedModel
from farshore.hub import moments
from farshore.hub.database import Database
from farshore.hub.layering import link_of
from farshore.hub.records import changes, ledger, rollouts
from farshore.hub.records.ledger import SUMS, Link, Moved

MILLION = 1_000_000


class Ledger:
    """What was moved, and the links that it was moved over.

    Args:
        database: open.

    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def links(self) -> list[Link]:
        with self._database.reading() as tx:
            return ledger.every_link(tx)

    def put_link(self, row: Link) -> None:
        """Set a link's price, and what devices heed on it; what was moved before keeps its price.

        Raises:
            Invalid: a bad name or window.

        """
        check_name(row.name)
        for text in row.windows:
            windows.parse(text)
        with self._database.writing() as tx:
            ledger.put_link(tx, row)
            changes.bump(tx, changes.RULES)

    def remove_link(self, name: str) -> None:
        """Forget a link; the ledger keeps what it cost.

        Raises:
            NotFound: there is none.

        """
        with self._database.writing() as tx:
            if not ledger.remove_link(tx, name):
                raise NotFound(f"no link {name!r}")
            changes.bump(tx, changes.RULES)

    def sums(self, by: Sequence[str], where: Mapping[str, str], since: str, until: str, limit: int) -> list[Moved]:
        """See :func:`.records.ledger.sums`.

        Raises:
            Invalid: ``by`` or ``where`` names no such column, or a version that is no number.

        """
        unknown = sorted({*by, *where} - {*SUMS})
        if unknown:
            raise Invalid(f"the ledger has no {unknown[0]!r}: use {', '.join(SUMS)}")
        if not re.fullmatch(r"[0-9]{1,9}", where.get("version", "0")):
            raise Invalid(f"version {where['version'][:40]!r}: use its number")
        with self._database.reading() as tx:
            return ledger.sums(tx, by, where, since, until, limit)


def enter(
    tx: Connection,
    device: str,
    tags: Mapping[str, Any],
    before: Mapping[str, ReportedModel],
    after: Mapping[str, ReportedModel],
    now: float,
) -> None:
    """Enter what a device fetched between two reports."""
    for model, said in after.items():
        old = before[model].fetched if model in before else 0
        count = said.fetched - old if said.fetched >= old else said.fetched  # less than before: it was set up anew
        if count <= 0:
            continue
        meant = said.target or said.current
        link = ledger.link(tx, link_of(tags))
        key = {
            "day": moments.text(now)[:10],
            "device": device,
            "model": model,
            "version": 0 if meant is None else meant.version,
            "rollout": "" if meant is None else rollouts.giver(tx, device, meant.digest),
            "link": link.name,
        }
        ledger.add(tx, key, count, count / MILLION * link.price, link.currency)
