"""Models, their versions with files, and aliases."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, Row, Select, delete, func, insert, or_, select, update

from farshore.core.manifest import File
from farshore.hub.records.tables import aliases, files, models, upsert, versions


class Model(Struct, frozen=True):
    """A model's row; ``last`` is the highest number ever given."""

    id: int
    name: str
    last: int
    title: str
    description: str
    tags: dict[str, str]
    created: float


class Version(Struct, frozen=True):
    """A version's row.

    Attributes:
        id: the row's.
        model: name of the model.
        number: in the model's line.
        digest: of the manifest.
        content: digest of what the version is, whatever its number.
        size: bytes of all its files.
        description: one or more lines by who pushed.
        tags: key → value.
        properties: typed metadata.
        lineage: where it came from.
        notes: why its files were read as they were, one line each.
        archived: not offered any more, still there.
        created: seconds since the epoch.

    """

    id: int
    model: str
    number: int
    digest: str
    content: str
    size: int
    description: str
    tags: dict[str, str]
    properties: dict[str, Any]
    lineage: dict[str, Any]
    notes: list[str]
    archived: bool
    created: float


def model(tx: Connection, name: str) -> Model | None:
    row = tx.execute(select(models).where(models.c.name == name)).first()
    return None if row is None else _model(row)


def all_models(tx: Connection, after: str, limit: int, search: str = "") -> list[Model]:
    """Models by name, from the first after ``after``; those alone with ``search`` in their name or title, whatever its case."""
    chosen = select(models).where(models.c.name > after)
    if search:
        found = [
            func.lower(column).contains(search.lower(), autoescape=True) for column in (models.c.name, models.c.title)
        ]
        chosen = chosen.where(or_(*found))
    return [_model(row) for row in tx.execute(chosen.order_by(models.c.name).limit(limit))]


def add_model(tx: Connection, name: str, now: float) -> Model:
    values: dict[str, Any] = {"last": 0, "title": "", "description": "", "tags": {}}
    tx.execute(insert(models).values(name=name, created=now, **values))
    found = model(tx, name)
    assert found is not None
    return found


def describe_model(tx: Connection, name: str, title: str, description: str, tags: dict[str, str]) -> None:
    tx.execute(update(models).where(models.c.name == name).values(title=title, description=description, tags=tags))


def next_number(tx: Connection, model_id: int) -> int:
    """Take the next version number; it is never given again, also if its version is deleted."""
    taken = update(models).where(models.c.id == model_id).values(last=models.c.last + 1).returning(models.c.last)
    return int(tx.execute(taken).scalar_one())


def add_version(tx: Connection, model_id: int, version: Version, manifest: bytes, parts: dict[str, File]) -> int:
    """Write a version with its files; returns the row's id, ``version.id`` is ignored."""
    values = {
        "number": version.number,
        "digest": version.digest,
        "content": version.content,
        "size": version.size,
        "description": version.description,
        "tags": version.tags,
        "properties": version.properties,
        "lineage": version.lineage,
        "notes": version.notes,
        "archived": version.archived,
        "created": version.created,
    }
    statement = insert(versions).values(model_id=model_id, manifest=manifest, **values).returning(versions.c.id)
    row = int(tx.execute(statement).scalar_one())
    tx.execute(
        insert(files),
        [
            {"version_id": row, "path": path, "role": part.role, "digest": part.digest, "size": part.size}
            for path, part in parts.items()
        ],
    )
    return row


def annotate(tx: Connection, version_id: int, description: str, tags: dict[str, str], archived: bool) -> None:
    tx.execute(
        update(versions)
        .where(versions.c.id == version_id)
        .values(description=description, tags=tags, archived=archived)
    )


def remove_version(tx: Connection, version_id: int) -> None:
    tx.execute(delete(versions).where(versions.c.id == version_id))


def version(tx: Connection, name: str, number: int) -> Version | None:
    return _first(tx, models.c.name == name, versions.c.number == number)


def by_alias(tx: Connection, name: str, alias: str) -> Version | None:
    chosen = _VERSION.join(aliases, aliases.c.version_id == versions.c.id)
    row = tx.execute(chosen.where(models.c.name == name, aliases.c.name == alias)).first()
    return None if row is None else _version(row)


def newest(tx: Connection, name: str) -> Version | None:
    """The highest number that is not archived."""
    chosen = _VERSION.where(models.c.name == name, ~versions.c.archived)
    row = tx.execute(chosen.order_by(versions.c.number.desc()).limit(1)).first()
    return None if row is None else _version(row)


def by_content(tx: Connection, model_id: int, content: str) -> Version | None:
    return _first(tx, versions.c.model_id == model_id, versions.c.content == content)


def by_digest(tx: Connection, digest: str) -> Version | None:
    return _first(tx, versions.c.digest == digest)


def all_versions(tx: Connection, name: str, before: int, limit: int) -> list[Version]:
    """Versions of a model below number ``before``, newest first."""
    chosen = _VERSION.where(models.c.name == name, versions.c.number < before)
    return [_version(row) for row in tx.execute(chosen.order_by(versions.c.number.desc()).limit(limit))]


def version_counts(tx: Connection, names: list[str]) -> dict[str, tuple[int, int]]:
    """Per model: versions there are, and the newest number that is not archived (0 for none)."""
    newest = func.max(versions.c.number).filter(~versions.c.archived)
    rows = tx.execute(
        select(models.c.name, func.count(versions.c.id).label("many"), func.coalesce(newest, 0).label("newest"))
        .join(versions, versions.c.model_id == models.c.id)
        .where(models.c.name.in_(names))
        .group_by(models.c.name)
    )
    return {row.name: (row.many, row.newest) for row in rows}


def any_version(tx: Connection) -> bool:
    return tx.execute(select(versions.c.id).limit(1)).first() is not None


def manifest(tx: Connection, digest: str) -> bytes | None:
    """The manifest with this digest."""
    return tx.execute(select(versions.c.manifest).where(versions.c.digest == digest)).scalar()


def manifests(tx: Connection, name: str) -> dict[int, tuple[str, int]]:
    """Number → digest and length in bytes of the manifest of every version of a model."""
    rows = tx.execute(
        select(versions.c.number, versions.c.digest, func.length(versions.c.manifest).label("size"))
        .join(models, models.c.id == versions.c.model_id)
        .where(models.c.name == name)
        .order_by(versions.c.number)
    )
    return {row.number: (row.digest, row.size) for row in rows}


def file(tx: Connection, version_id: int, path: str) -> File | None:
    row = tx.execute(select(files).where(files.c.version_id == version_id, files.c.path == path)).first()
    return None if row is None else File(row.path, row.digest, row.size, row.role)


def version_files(tx: Connection, version_id: int) -> list[File]:
    rows = tx.execute(select(files).where(files.c.version_id == version_id).order_by(files.c.path))
    return [File(row.path, row.digest, row.size, row.role) for row in rows]


def aliased(tx: Connection, model_id: int, alias: str) -> str | None:
    """Digest of the version that an alias points at."""
    chosen = select(versions.c.digest).join(aliases, aliases.c.version_id == versions.c.id)
    return tx.execute(chosen.where(aliases.c.model_id == model_id, aliases.c.name == alias)).scalar()


def set_alias(tx: Connection, model_id: int, name: str, version_id: int, now: float) -> None:
    upsert(tx, aliases, {"model_id": model_id, "name": name, "version_id": version_id, "moved": now})


def remove_alias(tx: Connection, model_id: int, name: str) -> bool:
    chosen = delete(aliases).where(aliases.c.model_id == model_id, aliases.c.name == name)
    return tx.execute(chosen).rowcount > 0


def all_aliases(tx: Connection, names: list[str]) -> dict[str, dict[str, int]]:
    """Per model: alias → version number."""
    rows = tx.execute(
        select(models.c.name.label("model"), aliases.c.name, versions.c.number)
        .join(models, models.c.id == aliases.c.model_id)
        .join(versions, versions.c.id == aliases.c.version_id)
        .where(models.c.name.in_(names))
        .order_by(aliases.c.name)
    )
    found: dict[str, dict[str, int]] = {}
    for row in rows:
        found.setdefault(row.model, {})[row.name] = row.number
    return found


_COLUMNS = [column for column in versions.c if column.name not in {"manifest", "model_id"}]
_VERSION: Select[Any] = select(*_COLUMNS, models.c.name.label("model")).join(models, models.c.id == versions.c.model_id)


def _first(tx: Connection, *conditions: Any) -> Version | None:
    row = tx.execute(_VERSION.where(*conditions)).first()
    return None if row is None else _version(row)


def _model(row: Row[Any]) -> Model:
    return Model(row.id, row.name, row.last, row.title, row.description, row.tags, row.created)


def _version(row: Row[Any]) -> Version:
    return Version(
        id=row.id,
        model=row.model,
        number=row.number,
        digest=row.digest,
        content=row.content,
        size=row.size,
        description=row.description,
        tags=row.tags,
        properties=row.properties,
        lineage=row.lineage,
        notes=row.notes,
        archived=row.archived,
        created=row.created,
    )
