"""The registry: models, their immutable versions, aliases, and the blobs they are made of.

Bytes first, rows after: a blob is known when its row is there, and the row is written when the bytes are durable; a
version's row is written in the same transaction that takes its number. A crash in between leaves only unknown bytes,
which are swept later.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection

from farshore.core import digest as digests
from farshore.core import manifest as manifests
from farshore.core.digest import Digest
from farshore.core.errors import Conflict, Denied, Invalid, NotFound
from farshore.core.manifest import Content, File, Manifest, check_name
from farshore.hub import moments, refs
from farshore.hub.database import Database
from farshore.hub.director import Director
from farshore.hub.records import blobs, changes, deployments, devices, models, patches, rollouts
from farshore.hub.records.models import Model, Version
from farshore.store import files
from farshore.store.objects import Objects
from farshore.trust.releases import Release
from farshore.trust.repository import same_payload

MAX_TAGS = 64
ORPHAN_SECONDS = 24 * 3600
"""How long an uploaded blob may wait for the version that it was uploaded for."""

STRIPES = 64
MAX_DRAFTS = 64
COLLECTED = 1000
MAX_SEARCH = 200
_RUNS = (devices.CURRENT, devices.PREVIOUS, devices.PINNED)


class About(Struct, frozen=True):
    """What an operator says of a version, and what was noticed in its files (``notes``)."""

    description: str = ""
    tags: dict[str, str] = {}
    properties: dict[str, Any] = {}
    lineage: dict[str, Any] = {}
    notes: list[str] = []


class Draft(Struct, frozen=True):
    """A version that its publisher has yet to sign.

    Attributes:
        model: name.
        number: that it will have.
        digest: of the manifest.
        payload: the manifest's bytes.
        role: the publisher's role with it, unsigned.
        content, about, alias: as they were pushed.

    """

    model: str
    number: int
    digest: Digest
    payload: bytes
    role: bytes
    content: Content
    about: About
    alias: str


class Registry:
    """All models.

    Args:
        database: open.
        objects: where bytes are kept.
        director: keeps what publishers sign.
        spool: folder for uploads under way.
        clock: tells the time.

    """

    def __init__(
        self, database: Database, objects: Objects, director: Director, spool: Path, clock: moments.Clock
    ) -> None:
        self._database = database
        self.objects = objects
        self.director = director
        self.spool = spool
        self._clock = clock
        self._stripes = [threading.Lock() for _ in range(STRIPES)]
        self._drafts: OrderedDict[Digest, Draft] = OrderedDict()

    # -- blobs -----------------------------------------------------------------------------------------------------

    def blob_size(self, digest: Digest) -> int:
        """Bytes of a known blob.

        Raises:
            NotFound: it is not known.

        """
        with self._database.reading() as tx:
            size = blobs.size(tx, digest)
        if size is None:
            raise NotFound(f"no blob {digest}")
        return size

    def new_spool(self) -> Path:
        """A fresh path to write an upload to."""
        return files.temporary(self.spool / "upload")

    def add_blob(self, digest: Digest, path: Path, size: int) -> None:
        """Take the spool file ``path``, whose digest was checked, as a blob. Durable on return; the file is gone.

        Raises:
            Unavailable: disk or store failing; the blob is not known then.

        """
        with self._stripe(digest):
            self.objects.put(digest, path)
            with self._database.writing() as tx:
                blobs.add(tx, digest, size, self._clock())

    def add_bytes(self, data: bytes) -> Digest:
        """Make ``data`` a blob.

        Raises:
            Unavailable: as :meth:`add_blob`.

        """
        digest, path = digests.of(data), self.new_spool()
        try:
            files.write_atomic(path, data, mode=0o600)
            self.add_blob(digest, path, len(data))
        finally:
            files.discard(path)
        return digest

    def claim(self, wanted: list[Digest]) -> dict[Digest, int]:
        """Sizes of blobs that are about to become a version; keeps them from being collected meanwhile.

        Raises:
            NotFound: one is not known: upload it first.

        """
        with self._database.writing() as tx:
            sizes = blobs.sizes(tx, list(wanted))
            blobs.touch(tx, list(wanted), self._clock())
        for digest in wanted:
            if digest not in sizes:
                raise NotFound(f"no blob {digest}: upload it first")
        return {digest: sizes[digest] for digest in wanted}

    def collect(self) -> int:
        """Delete blobs that no version needs and nobody uploaded or claimed lately, and patches from and to them; how many."""
        before = self._clock() - ORPHAN_SECONDS
        with self._database.reading() as tx:
            unused = blobs.unused(tx, before, COLLECTED)
        removed = 0
        for digest in unused:
            with self._stripe(digest):
                with self._database.writing() as tx:
                    gone = blobs.remove_unused(tx, digest, before)
                    if gone:
                        patches.forget(tx, digest)
                if gone:
                    self.objects.remove(digest)
                    removed += 1
        # A patch is free only when what it is from or to is gone.
        return removed + (self.collect() if removed else 0)

    def sweep(self) -> int:
        """Delete objects that have no row: a crash came between bytes and row, and nobody uploaded them again; how many."""
        before, removed = self._clock() - ORPHAN_SECONDS, 0
        for digest, put in self.objects.stored():
            if put >= before:
                continue
            with self._stripe(digest):
                with self._database.reading() as tx:
                    known = blobs.size(tx, digest) is not None
                if not known:
                    self.objects.remove(digest)
                    removed += 1
        return removed

    # -- versions --------------------------------------------------------------------------------------------------

    def add_version(self, name: str, content: Content, about: About, alias: str) -> tuple[Version | Draft, bool]:
        """The next version of a model; the first push of a name makes the model.

        Args:
            name: of the model.
            content: what the version is; its blobs are known.
            about: what is said of it beside its content.
            alias: name to point at it; "" for none.

        Returns:
            the version, and whether its content was there already (then no version was made); or the draft of it, which its
            publisher has to sign (:meth:`publish`).

        Raises:
            Invalid: bad name or alias, or the content breaks a rule of manifests.
            NotFound: a blob vanished meanwhile.

        """
        check_name(name)
        now = self._clock()
        with self._database.writing() as tx:
            model = models.model(tx, name)
            found = None if model is None else models.by_content(tx, model.id, manifests.content_digest(content))
            if found is not None and model is not None and self.director.lists(tx, found):
                if alias:
                    self._point(tx, model, alias, found, now)
                return found, True
            draft = self._draft(tx, name, found, content, about, alias)
            if self.director.development:
                version = self._published(tx, draft, self.director.sign_role(tx, name, draft.role))
        if self.director.development:
            self.director.changed()
            return version, found is not None
        self._drafts[draft.digest] = draft
        while len(self._drafts) > MAX_DRAFTS:
            self._drafts.popitem(last=False)
        return draft, False

    def publish(self, name: str, digest: Digest, role: bytes) -> Version:
        """Make a draft a version, with its publisher's signature.

        Args:
            name: of the model.
            digest: of the draft's manifest.
            role: the draft's role, signed.

        Raises:
            NotFound: no such draft (any more): push again.
            Conflict: another version was published meanwhile: push again.
            Denied: not signed by the model's publisher, or not what was drafted.

        """
        draft = self._drafts.get(digest)
        if draft is None or draft.model != check_name(name):
            raise NotFound(f"no draft of {name} with digest {digest}: push again")
        if not same_payload(role, draft.role):
            raise Denied(f"{name}: the signed role is not the one that was drafted")
        with self._database.writing() as tx:
            version = self._published(tx, draft, role)
        self.director.changed()
        self._drafts.pop(digest, None)
        return version

    def find(self, name: str, which: str) -> Version:
        """The version with a number or alias; "" for the newest not archived.

        Raises:
            Invalid, NotFound: as :func:`farshore.hub.refs.find`.

        """
        check_name(name)
        with self._database.reading() as tx:
            return refs.find(tx, name, which)

    def versions(self, name: str, before: int, limit: int) -> list[Version]:
        """Versions below number ``before``, newest first.

        Raises:
            NotFound: no such model.

        """
        with self._database.reading() as tx:
            _existing(tx, name)
            return models.all_versions(tx, name, before, limit)

    def holders(self, versions: list[Version]) -> dict[str, dict[str, int]]:
        """Manifest digest → how many devices hold that version, by role (``current``, ``desired``, …)."""
        with self._database.reading() as tx:
            return devices.holders_of(tx, [one.digest for one in versions])

    def manifest(self, version: Version) -> Manifest:
        """The version's manifest.

        Raises:
            NotFound: deleted meanwhile.

        """
        return manifests.decode(self.payload(Digest(version.digest)))

    def payload(self, digest: Digest) -> bytes:
        """The bytes of the manifest with this digest.

        Raises:
            NotFound: there is none.

        """
        with self._database.reading() as tx:
            payload = models.manifest(tx, digest)
        if payload is None:
            raise NotFound(f"no version with digest {digest}")
        return payload

    def files(self, version: Version) -> list[File]:
        """All files of a version, by path."""
        with self._database.reading() as tx:
            return models.version_files(tx, version.id)

    def file(self, version: Version, path: str) -> File:
        """One file of a version.

        Raises:
            NotFound: there is none.

        """
        with self._database.reading() as tx:
            found = models.file(tx, version.id, path)
        if found is None:
            raise NotFound(f"{version.model}@{version.number} has no file {path[:80]!r}")
        return found

    def annotate(
        self, name: str, which: str, description: str | None, *, tags: dict[str, str | None], archived: bool | None
    ) -> None:
        """Change what may change about a version; None leaves a part, or deletes a tag.

        Raises:
            NotFound: no such version.
            Invalid: too many tags.

        """
        with self._database.writing() as tx:
            found = refs.find(tx, name, which)
            models.annotate(
                tx,
                found.id,
                found.description if description is None else description,
                merged_tags(found.tags, tags),
                found.archived if archived is None else archived,
            )
            after = refs.find(tx, name, str(found.number))
            changes.add(
                tx, "version.changed", f"{name}@{found.number}", self._clock(), before=_said(found), after=_said(after)
            )

    def remove(self, name: str, which: str) -> None:
        """Delete a version; its number is never given again.

        Raises:
            NotFound: no such version.
            Conflict: an alias points at it, a deployment or an operator's twin entry names it, or a device runs it or
                keeps it for going back.

        """
        with self._database.writing() as tx:
            found = refs.find(tx, name, which)
            _refuse_in_use(tx, found)
            parts = models.version_files(tx, found.id)
            models.remove_version(tx, found.id)
            blobs.touch(tx, [part.digest for part in parts], 0.0)  # free for collection at once
            changes.add(tx, "version.removed", f"{name}@{found.number}", self._clock(), before=found.digest)
        self.collect()

    # -- models ----------------------------------------------------------------------------------------------------

    def model(self, name: str) -> tuple[Model, dict[str, int]]:
        """A model and its aliases (alias → number).

        Raises:
            NotFound: there is none.

        """
        with self._database.reading() as tx:
            return _existing(tx, name), models.all_aliases(tx, [name]).get(name, {})

    def models(self, after: str, limit: int, search: str = "") -> list[tuple[Model, dict[str, int], int, int]]:
        """Models by name, from the first after ``after``: with aliases, number of versions, newest number (0 for none).

        Args:
            after: name; "" for the first page.
            limit: most models to return.
            search: part of a name or title, whatever its case; "" for all.

        Raises:
            Invalid: ``search`` is too long.

        """
        if len(search) > MAX_SEARCH:
            raise Invalid(f"search: {len(search)} characters; at most {MAX_SEARCH} are looked for")
        with self._database.reading() as tx:
            found = models.all_models(tx, after, limit, search)
            names = [one.name for one in found]
            aliases, counts = models.all_aliases(tx, names), models.version_counts(tx, names)
        return [(one, aliases.get(one.name, {}), *counts.get(one.name, (0, 0))) for one in found]

    def describe(self, name: str, title: str | None, description: str | None, tags: dict[str, str | None]) -> None:
        """Change a model's texts and tags; None leaves a text, or deletes a tag.

        Raises:
            NotFound: no such model.

        """
        with self._database.writing() as tx:
            old = _existing(tx, name)
            models.describe_model(
                tx,
                name,
                old.title if title is None else title,
                old.description if description is None else description,
                merged_tags(old.tags, tags),
            )
            changes.add(tx, "model.changed", name, self._clock(), before=_told(old), after=_told(_existing(tx, name)))

    def set_alias(self, name: str, alias: str, which: str) -> Version:
        """Point an alias at a version, moving it if it points elsewhere.

        Raises:
            Invalid: bad alias.
            NotFound: no such version.

        """
        now = self._clock()
        with self._database.writing() as tx:
            model, found = _existing(tx, name), refs.find(tx, name, which)
            self._point(tx, model, alias, found, now)
        return found

    def remove_alias(self, name: str, alias: str) -> None:
        """Raises:
        NotFound: no such alias.

        """
        with self._database.writing() as tx:
            model = _existing(tx, name)
            held = models.aliased(tx, model.id, alias)
            if not models.remove_alias(tx, model.id, alias):
                raise NotFound(f"model {name!r} has no alias {alias!r}")
            changes.add(tx, "alias.removed", f"{name}@{alias}", self._clock(), before=held)

    def redraft(self, name: str) -> bytes:
        """The role of a model's publisher as it would be now, unsigned.

        Raises:
            NotFound: no such model.

        """
        with self._database.reading() as tx:
            _existing(tx, name)
            return self.director.draft(tx, name, {})

    def _stripe(self, digest: Digest) -> threading.Lock:
        return self._stripes[int(digests.hex_of(digest)[:8], 16) % STRIPES]

    def _draft(
        self, tx: Connection, name: str, found: Version | None, content: Content, about: About, alias: str
    ) -> Draft:
        """The next version; or ``found``, a version of old that its publisher is to stand for again."""
        model = models.model(tx, name)
        number = found.number if found is not None else 1 if model is None else model.last + 1
        payload = manifests.encode(Manifest(name, number, content))
        digest = digests.of(payload)
        role = self.director.draft(tx, name, {number: Release(digest, len(payload))})
        return Draft(name, number, digest, payload, role, content, about, alias)

    def _published(self, tx: Connection, draft: Draft, role: bytes) -> Version:
        """Write a draft down as a version, with the role that lists it."""
        content, now = draft.content, self._clock()
        model = models.model(tx, draft.model) or models.add_model(tx, draft.model, now)
        known = models.by_digest(tx, draft.digest)
        if known is not None:
            self.director.publish(tx, model.name, role)
            if draft.alias:
                self._point(tx, model, draft.alias, known, now)
            return known
        if models.next_number(tx, model.id) != draft.number:
            raise Conflict(f"{draft.model}: another version was published meanwhile; push again")
        parts = {file.path: file for variant in content.variants for file in variant.files}
        parts |= {case.picture.path: case.picture for case in content.acceptance}
        sizes = blobs.sizes(tx, [part.digest for part in parts.values()])
        for part in parts.values():
            if sizes.get(part.digest) != part.size:
                raise NotFound(f"no blob {part.digest} of {part.size} bytes for {part.path!r}: upload it again")
        row = Version(
            id=0,
            model=model.name,
            number=draft.number,
            digest=draft.digest,
            content=manifests.content_digest(content),
            size=sum({part.digest: part.size for part in parts.values()}.values()),
            description=draft.about.description,
            tags=draft.about.tags,
            properties=draft.about.properties,
            lineage=draft.about.lineage,
            notes=draft.about.notes,
            archived=False,
            created=now,
        )
        models.add_version(tx, model.id, row, draft.payload, parts)
        self.director.publish(tx, model.name, role)
        found = refs.find(tx, model.name, str(draft.number))
        changes.add(tx, "version.created", f"{model.name}@{found.number}", now, after=found.digest)
        if draft.alias:
            self._point(tx, model, draft.alias, found, now)
        return found

    def _point(self, tx: Connection, model: Model, alias: str, version: Version, now: float) -> None:
        held = models.aliased(tx, model.id, alias)
        models.set_alias(tx, model.id, refs.check_alias(alias), version.id, now)
        changes.add(tx, "alias.set", f"{model.name}@{alias}", now, before=held, after=version.digest)


def _said(version: Version) -> list[Any]:
    """What may be changed about a version."""
    return [version.description, version.tags, version.archived]


def _told(model: Model) -> list[Any]:
    """What may be changed about a model."""
    return [model.title, model.description, model.tags]


def merged_tags(old: dict[str, str], change: dict[str, str | None]) -> dict[str, str]:
    """Tags after a change; None deletes.

    Raises:
        Invalid: too many.

    """
    tags = {key: value for key, value in {**old, **change}.items() if value is not None}
    if len(tags) > MAX_TAGS:
        raise Invalid(f"{len(tags)} tags; at most {MAX_TAGS} are kept")
    return tags


def _existing(tx: Connection, name: str) -> Model:
    found = models.model(tx, check_name(name))
    if found is None:
        raise NotFound(f"no model {name!r}")
    return found


def _refuse_in_use(tx: Connection, version: Version) -> None:
    ref = f"{version.model}@{version.number}"
    aliases = models.all_aliases(tx, [version.model]).get(version.model, {})
    pointing = [alias for alias, number in aliases.items() if number == version.number]
    if pointing:
        raise Conflict(f"{ref} stays: alias {_few(pointing)} points at it; move or remove that first")
    naming = deployments.naming(tx, version.id, 4)
    if naming:
        raise Conflict(f"{ref} stays: deployment {_few(naming)} names it; change or remove that first")
    rolling = rollouts.naming(tx, version.id, 4)
    if rolling:
        raise Conflict(f"{ref} stays: rollout {_few(rolling)} brings or replaces it; end that first")
    holders = devices.holders(tx, version.digest, _RUNS, 4)
    if holders:
        raise Conflict(f"{ref} stays: device {_few(holders)} runs it, keeps it for going back, or is told to run it")


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
