"""Blobs: a row says that the bytes are durable in the object store."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, delete, exists, select, update

from farshore.core.digest import Digest
from farshore.hub.records.tables import blobs, bundles, files, models, patches, upsert, versions


def size(tx: Connection, digest: str) -> int | None:
    """Bytes of a known blob, or None."""
    found = tx.execute(select(blobs.c.size).where(blobs.c.digest == digest)).scalar()
    return None if found is None else int(found)


def sizes(tx: Connection, digests: list[str]) -> dict[str, int]:
    """Bytes of those of ``digests`` that are known."""
    rows = tx.execute(select(blobs.c.digest, blobs.c.size).where(blobs.c.digest.in_(digests)))
    return {row.digest: row.size for row in rows}


def models_with(tx: Connection, digest: str) -> list[str]:
    """Names of models that have a version with this blob."""
    joined = select(models.c.name).join(versions, versions.c.model_id == models.c.id)
    found = joined.join(files, files.c.version_id == versions.c.id).where(files.c.digest == digest).distinct()
    return list(tx.execute(found).scalars())


def add(tx: Connection, digest: str, size: int, now: float) -> None:
    upsert(tx, blobs, {"digest": digest, "size": size, "touched": now})


def touch(tx: Connection, digests: list[str], now: float) -> None:
    """Note that somebody is about to use these blobs."""
    tx.execute(update(blobs).where(blobs.c.digest.in_(digests)).values(touched=now))


def unused(tx: Connection, before: float, limit: int) -> list[Digest]:
    """Blobs that are no version's, no patch and no bundle, and that nobody touched since ``before``."""
    rows = tx.execute(select(blobs.c.digest).where(*_unused(before)).limit(limit))
    return [Digest(row.digest) for row in rows]


def remove_unused(tx: Connection, digest: str, before: float) -> bool:
    """Forget a blob if it is still unused; whether it was."""
    return tx.execute(delete(blobs).where(blobs.c.digest == digest, *_unused(before))).rowcount > 0


def _unused(before: float) -> tuple[ColumnElement[bool], ...]:
    used = (~exists().where(table.c.digest == blobs.c.digest) for table in (files, patches, bundles))
    return blobs.c.touched < before, *used
