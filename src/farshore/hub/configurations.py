"""Configurations, as IoT Hub's clients make and read them: deployments of ours among them.

What names just one model (``deviceContent`` with ``properties.desired.models.<name>``) is a deployment, whichever door it came through;
everything else is a row of its own. All of them are read as configurations. Id and content are fixed; target, priority, labels and
metrics may change.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any

from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import Connection

from farshore.core import documents, twin, wire
from farshore.core.errors import Conflict, Invalid, NotFound
from farshore.hub import configuration, configured, moments, query
from farshore.hub.configuration import Content, Part
from farshore.hub.database import Database
from farshore.hub.deployments import Deployments
from farshore.hub.fleet import Stale
from farshore.hub.identities import Identities
from farshore.hub.records import changes, configurations, deployments, devices
from farshore.hub.records.configurations import Configuration, Manner
from farshore.hub.records.deployments import Deployment

MAX_METRICS = 5
MAX_LABELS = 20
MAX_CONFIGURATIONS = 1000
MAX_PRIORITY = (1 << 31) - 1

_ID = re.compile(r"[a-z0-9\-+%_*!']{1,128}\Z")


class Asked(Struct, frozen=True):
    """What a configuration should be; members as in :class:`~.records.configurations.Configuration`."""

    content: dict[str, Any]
    selector: str = ""
    priority: int = 0
    labels: dict[str, str] = {}
    metrics: dict[str, str] = {}


class Configurations:
    """All configurations.

    Args:
        database: open.
        deployments: those that are of models.
        identities: makes modules that content is given to.
        clock: tells the time.

    """

    def __init__(
        self, database: Database, deployments: Deployments, identities: Identities, clock: moments.Clock
    ) -> None:
        self._database = database
        self._deployments = deployments
        self._identities = identities
        self._clock = clock

    def every(self) -> list[Configuration]:
        """All of them by id, deployments included."""
        with self._database.reading() as tx:
            manners = configurations.manners(tx)
            models = [_shown(tx, row, manners.get(row.id, Manner())) for row in deployments.every(tx)]
            return sorted([*configurations.every(tx), *models], key=lambda one: one.id)

    def one(self, key: str) -> Configuration:
        """One of them.

        Raises:
            NotFound: there is none.

        """
        with self._database.reading() as tx:
            found = _one(tx, key)
        if found is None:
            raise _missing(key)
        return found

    def put(self, key: str, asked: Asked, etag: str | None) -> Configuration:
        """Make a configuration, or change it.

        Args:
            key: its id.
            asked: what it should be.
            etag: value of ``If-Match``: that of the one to change, ``*`` for any; None to make a new one.

        Raises:
            Invalid, TooLarge: it breaks a rule, or its content would change.
            Conflict: it is there already; or a rollout is changing it.
            NotFound: it is to be changed and is not there; or there is no such version of the model.
            Stale: the etag is not the present one.

        """
        now = self._clock()
        _check(key, asked)
        with self._database.writing() as tx:
            held, row = _one(tx, key), deployments.one(tx, key)
            _check_etag(key, held, etag)
            if held is not None and held.content != asked.content:
                raise Invalid(
                    f"configuration {key}: its content is fixed: make one with another id, and delete this one"
                )
            model = configuration.model_of(_content(asked)) if row is None else None
            if model is None and row is None:
                if held is None and len(configurations.every(tx)) >= MAX_CONFIGURATIONS:
                    raise Conflict(f"there are {MAX_CONFIGURATIONS} configurations: delete some first")
                return self._write(tx, key, asked, held, now)
        if row is not None:
            ref = row.ref if row.ref.partition("@")[2].isdigit() else f"{row.model}@{row.version}"
        else:
            assert model is not None
            ref = self._ref(*model)

        def manner(before: Manner) -> Manner:
            return replace(before, labels=asked.labels, metrics=asked.metrics)

        self._deployments.put(key, asked.selector or "*", ref, asked.priority, manner=manner)
        return self.one(key)

    def remove(self, key: str, etag: str | None) -> None:
        """Delete a configuration: what it gave goes from each twin when that is next read.

        Raises:
            NotFound: there is none.
            Stale: the etag is not the present one.
            Conflict: a rollout is changing it.

        """
        with self._database.writing() as tx:
            held = _one(tx, key)
            if held is None:
                raise _missing(key)
            _check_etag(key, held, etag or "*")
            if configurations.remove(tx, key):
                changes.bump(tx, changes.RULES)
                changes.add(tx, "configuration.removed", key, self._clock(), before=held)
                return
        self._deployments.remove(key)

    def plan(self, device: str, document: Any) -> dict[str, dict[str, Any]]:
        """What applying content to one device comes to: for each module ("" for the device) the document to change its twin by.
        Modules that are named and are not there are made.

        Raises:
            Invalid, TooLarge: the content breaks a rule; or too many modules.
            NotFound: no such device.

        """
        content = configuration.read(document)
        if content.kind == "module":
            raise Invalid("content: moduleContent needs a condition: use modulesContent, which names modules")
        named = set(content.parts)
        for part in content.parts.get(configuration.AGENT, ()):
            named |= _modules(part)
        found = {}
        with self._database.writing() as tx:
            if devices.one(tx, device) is None:
                raise NotFound(f"no device {device!r}")
            self._identities.add_modules(tx, device, [name for name in named if name], "iotEdge")
            for module, parts in content.parts.items():
                row = devices.twin(tx, device, module)
                assert row is not None
                values = row.manual
                for part in parts:
                    values = configuration.put(values, part)
                found[module] = {"properties": {"desired": values}}
        return found

    def _write(self, tx: Connection, key: str, asked: Asked, held: Configuration | None, now: float) -> Configuration:
        row = Configuration(
            key,
            asked.selector or "*",
            asked.priority,
            asked.content,
            asked.labels,
            asked.metrics,
            held.created if held else now,
            now,
            held.version + 1 if held else 1,
        )
        configurations.put(tx, row)
        changes.bump(tx, changes.RULES)
        changes.add(tx, f"configuration.{'changed' if held else 'created'}", key, now, before=held, after=row)
        return row

    def _ref(self, model: str, entry: Any) -> str:
        """The version that a model's entry names.

        Raises:
            Invalid: it names none, or another one by its digest.

        """
        wanted = documents.convert(entry, wire.DesiredModel, what=f"content: models.{model}")
        with self._database.reading() as tx:
            from_digest = configured.version_of(tx, wanted.digest)
        if from_digest != (model, wanted.version):
            raise Invalid(f"content: there is no version {wanted.version} of {model!r} with {wanted.digest}")
        return f"{model}@{wanted.version}"


def etag_of(row: Configuration) -> str:
    """The etag in IoT Hub's form: base64 of decimal digits."""
    return base64.b64encode(str(row.version).encode()).decode()


def _one(tx: Connection, key: str) -> Configuration | None:
    found = configurations.one(tx, key)
    row = deployments.one(tx, key) if found is None else None
    return found if row is None else _shown(tx, row, configurations.manner(tx, key))


def _shown(tx: Connection, row: Deployment, manner: Manner) -> Configuration:
    """A deployment as a configuration."""
    content = configured.classic_content(tx, row, manner.classic) if manner.classic else None
    if content is None:
        entry = {"version": row.version, "digest": row.digest}
        path = (configuration.MODELS, twin.key_of(row.model))
        content = Content("device", {"": (Part(path, entry),)})
    return Configuration(
        row.id,
        row.selector,
        row.priority,
        configuration.document(content),
        manner.labels,
        manner.metrics,
        row.created,
        row.changed,
        _counter(row, manner),
    )


def _counter(row: Deployment, manner: Manner) -> int:
    """What stands for a counter of a deployment's changes, which it has none of: another number whenever it says anything else."""
    said = documents.canonical([row.serial, row.selector, row.ref, row.digest, row.priority, row.changed, manner])
    return int.from_bytes(hashlib.sha256(said).digest()[:6])


def _check(key: str, asked: Asked) -> None:
    if not _ID.match(key):
        raise Invalid(f"bad configuration id {key[:80]!r}: 1 to 128 of a-z 0-9 and - + % _ * ! '")
    if not 0 <= asked.priority <= MAX_PRIORITY:
        raise Invalid(f"priority {asked.priority}: a number from 0 to {MAX_PRIORITY} is needed")
    if len(asked.metrics) > MAX_METRICS or len(asked.labels) > MAX_LABELS:
        raise Invalid(f"at most {MAX_METRICS} metrics and {MAX_LABELS} labels are possible")
    for name, text in asked.labels.items():
        if len(name) > 128 or len(text) > 1024:
            raise Invalid(f"label {name[:60]!r}: at most 128 characters, its value 1024")
    for name, text in asked.metrics.items():
        if len(name) > 128:
            raise Invalid(f"metric {name[:60]!r}: at most 128 characters")
        query.parse(text)
    query.target(asked.selector)


def _content(asked: Asked) -> Content:
    content, target = configuration.read(asked.content), query.target(asked.selector)
    if isinstance(target, query.Query) != (content.kind == "module"):
        raise Invalid("moduleContent goes with a target condition FROM devices.modules WHERE …, and only that")
    return content


def _check_etag(key: str, held: Configuration | None, etag: str | None) -> None:
    if etag is None:
        if held is not None:
            raise Conflict(f"there is a configuration {key!r} already: send If-Match to change it")
    elif held is None:
        raise _missing(key)
    elif etag.strip().strip('"') not in {"*", etag_of(held)}:
        raise Stale("the configuration was changed meanwhile: read it again")


def _modules(part: Part) -> set[str]:
    """Modules that a part of ``$edgeAgent``'s desired section has run."""
    values = configuration.put({}, part)
    found = values.get("modules")
    return set(found) if isinstance(found, dict) else set()


def _missing(key: str) -> NotFound:
    return NotFound(f"no configuration {key!r}")
