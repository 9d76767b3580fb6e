"""Bundles: which version is which ZIP file."""

from __future__ import annotations

from msgspec import Struct
from sqlalchemy import Connection, select

from farshore.hub.records.tables import blobs, bundles, models, upsert, versions


class Bundle(Struct, frozen=True):
    """A version as a ZIP file.

    Attributes:
        version_id: row of the version.
        digest: of the ZIP file.
        md5: of the same bytes, base64, as modules of that contract compare it.
        size: their number.
        model: name of the model.
        number: of the version.
        manifest: digest of the version's manifest.

    """

    version_id: int
    digest: str
    md5: str
    size: int
    model: str
    number: int
    manifest: str


def of_version(tx: Connection, version_id: int) -> Bundle | None:
    row = tx.execute(_ALL.where(bundles.c.version_id == version_id)).first()
    return None if row is None else Bundle(*row)


def by_digest(tx: Connection, digest: str) -> Bundle | None:
    """A version with this ZIP file."""
    row = tx.execute(_ALL.where(bundles.c.digest == digest).limit(1)).first()
    return None if row is None else Bundle(*row)


def put(tx: Connection, version_id: int, digest: str, md5: str) -> None:
    upsert(tx, bundles, {"version_id": version_id, "digest": digest, "md5": md5})


_ALL = (
    select(bundles, blobs.c.size, models.c.name, versions.c.number, versions.c.digest)
    .join(blobs, blobs.c.digest == bundles.c.digest)
    .join(versions, versions.c.id == bundles.c.version_id)
    .join(models, models.c.id == versions.c.model_id)
)
