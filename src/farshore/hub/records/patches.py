"""Patches: from which files to which, what became of each, and the files that may serve as bases."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from sqlalchemy import Connection, delete, func, insert, select, update

from farshore.core.digest import Digest
from farshore.hub.records import devices
from farshore.hub.records.tables import blobs, files, holdings, models, patch_bases, patches, versions

USEFUL = ("model", "external", "labels", "other")
"""Roles of files that a patch may be from or to; pictures are packed already."""


class Patch(Struct, frozen=True):
    """A patch's row.

    Attributes:
        target: digest of what it makes.
        bases: digests of what it needs, in its own order; none for the smallest form of the target itself.
        digest: of the patch's bytes; None if it was not worth keeping.
        size: its bytes.
        level: how it was coded.
        created: seconds since the epoch.

    """

    target: Digest
    bases: tuple[Digest, ...]
    digest: Digest | None
    size: int
    level: str
    created: float


class Place(Struct, frozen=True):
    """Where a file stands: in which version, under which name."""

    model: str
    version: int
    path: str
    role: str
    digest: Digest
    size: int


def to(tx: Connection, target: str, limit: int) -> list[Patch]:
    """Patches that make ``target``, newest first; those not kept too."""
    chosen = select(patches).where(patches.c.target == target).order_by(patches.c.id.desc()).limit(limit)
    return [
        Patch(Digest(row.target), tuple(row.bases), row.digest, row.size, row.level, row.created)
        for row in tx.execute(chosen)
    ]


def add(tx: Connection, patch: Patch) -> None:
    """Note what became of a patch; an older note of the same bases is replaced."""
    tx.execute(delete(patches).where(patches.c.target == patch.target, patches.c.bases == list(patch.bases)))
    values = {
        "target": patch.target,
        "bases": list(patch.bases),
        "digest": patch.digest,
        "size": patch.size,
        "level": patch.level,
        "created": patch.created,
    }
    row = tx.execute(insert(patches).values(values).returning(patches.c.id)).scalar_one()
    if patch.bases:
        tx.execute(insert(patch_bases), [{"patch_id": row, "digest": base} for base in patch.bases])


def prune(tx: Connection, target: str, keep: int) -> None:
    """Forget all but the newest ``keep`` patches that make ``target``; their bytes are free for collection at once."""
    old = select(patches.c.id).where(patches.c.target == target).order_by(patches.c.id.desc()).offset(keep)
    _forget(tx, list(tx.execute(old).scalars()))


def forget(tx: Connection, digest: str) -> None:
    """Forget the patches from or to a file that is gone; their bytes are free for collection at once."""
    needing = select(patch_bases.c.patch_id).where(patch_bases.c.digest == digest)
    chosen = select(patches.c.id).where((patches.c.target == digest) | patches.c.id.in_(needing))
    _forget(tx, list(tx.execute(chosen).scalars()))


def is_kept(tx: Connection, digest: str) -> bool:
    """Whether these bytes are a patch that is kept."""
    return tx.execute(select(patches.c.id).where(patches.c.digest == digest).limit(1)).first() is not None


def forget_object(tx: Connection, digest: str) -> list[Digest]:
    """Forget the patches with these bytes, which are lost; what they were to."""
    rows = tx.execute(select(patches.c.id, patches.c.target).where(patches.c.digest == digest)).all()
    _forget(tx, [row.id for row in rows])
    return [Digest(row.target) for row in rows]


def places(tx: Connection, digests: Sequence[str], limit: int) -> list[Place]:
    """Where files with these digests stand, newest version first."""
    rows = tx.execute(
        select(files, versions.c.number, models.c.name)
        .join(versions, versions.c.id == files.c.version_id)
        .join(models, models.c.id == versions.c.model_id)
        .where(files.c.digest.in_(list(digests)), files.c.role.in_(USEFUL))
        .order_by(versions.c.id.desc(), files.c.path)
        .limit(limit)
    )
    return [Place(row.name, row.number, row.path, row.role, Digest(row.digest), row.size) for row in rows]


def version_places(tx: Connection, version_digest: str) -> list[Place]:
    """The files of a version that a patch may be from or to."""
    rows = tx.execute(
        select(files, versions.c.number, models.c.name)
        .join(versions, versions.c.id == files.c.version_id)
        .join(models, models.c.id == versions.c.model_id)
        .where(versions.c.digest == version_digest, files.c.role.in_(USEFUL))
        .order_by(files.c.path)
    )
    return [Place(row.name, row.number, row.path, row.role, Digest(row.digest), row.size) for row in rows]


def beside(tx: Connection, digests: Sequence[str], limit: int) -> dict[Digest, tuple[str, tuple[Digest, ...]]]:
    """For files of external data their name and the models beside them in the newest version they stand in, smallest first.

    Which of a version's models names the file, its variants' bytes tell; one with weights beside it is small.

    Args:
        digests: files of any role; those that are no external data are left out.
        limit: most models for a file.

    """
    found: dict[Digest, tuple[str, tuple[Digest, ...]]] = {}
    for digest in dict.fromkeys(digests):
        place = tx.execute(
            select(files.c.version_id, files.c.path)
            .where(files.c.digest == digest, files.c.role == "external")
            .order_by(files.c.version_id.desc(), files.c.path)
            .limit(1)
        ).first()
        if place is not None:
            models_there = (
                select(files.c.digest)
                .where(files.c.version_id == place.version_id, files.c.role == "model")
                .order_by(files.c.size, files.c.path)
                .limit(limit)
            )
            found[Digest(digest)] = place.path, tuple(Digest(one) for one in tx.execute(models_there).scalars())
    return found


def held(tx: Connection, model: str, limit: int) -> list[str]:
    """Manifest digests of a model's versions that devices run or keep for going back, those on most devices first."""
    rows = tx.execute(
        select(holdings.c.digest)
        .where(holdings.c.model == model, holdings.c.role.in_([devices.CURRENT, devices.PREVIOUS]))
        .group_by(holdings.c.digest)
        .order_by(func.count().desc(), holdings.c.digest)
        .limit(limit)
    )
    return list(rows.scalars())


def _forget(tx: Connection, rows: list[int]) -> None:
    if not rows:
        return
    digests = [found for found in tx.execute(select(patches.c.digest).where(patches.c.id.in_(rows))).scalars() if found]
    tx.execute(delete(patches).where(patches.c.id.in_(rows)))
    tx.execute(update(blobs).where(blobs.c.digest.in_(digests)).values(touched=0.0))
