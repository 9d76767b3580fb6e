"""Signed metadata: the whole line of roots, and the present document of every other role."""

from __future__ import annotations

from sqlalchemy import Connection, delete, select

from farshore.hub.records.tables import metadata_documents, upsert


def every(tx: Connection) -> tuple[list[bytes], dict[str, bytes]]:
    """The roots, first to last, and the other documents by role."""
    rows = tx.execute(select(metadata_documents).order_by(metadata_documents.c.version)).all()
    return [row.body for row in rows if row.role == "root"], {row.role: row.body for row in rows if row.role != "root"}


def one(tx: Connection, role: str) -> bytes | None:
    """The present document of a role that is not root."""
    return tx.execute(select(metadata_documents.c.body).where(metadata_documents.c.role == role)).scalar()


def put(tx: Connection, role: str, version: int, body: bytes) -> None:
    """A document; of roles other than root it takes the place of the one before."""
    if role != "root":
        tx.execute(delete(metadata_documents).where(metadata_documents.c.role == role))
    upsert(tx, metadata_documents, {"role": role, "version": version, "body": body})
