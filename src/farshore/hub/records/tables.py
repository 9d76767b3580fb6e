"""The tables, in the SQL that SQLite and PostgreSQL share. Migrations must lead to exactly these (a test compares)."""

from __future__ import annotations

from typing import Any

import sqlalchemy
from msgspec import json
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.types import TypeDecorator

from farshore.core import documents

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
Serial = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows by itself only in an INTEGER column


class Json(TypeDecorator[Any]):
    """A JSON value as canonical text: the same on every engine, read only as a whole."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> str | None:
        return None if value is None else documents.canonical(value).decode()

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return None if value is None else json.decode(value)


def _key(target: str) -> ForeignKey:
    return ForeignKey(target, ondelete="CASCADE")


blobs = Table(
    "blobs",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("touched", Double, nullable=False),
)

models = Table(
    "models",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("last", Integer, nullable=False),  # highest number ever given: never reused, also after deletion
    Column("title", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("tags", Json, nullable=False),
    Column("created", Double, nullable=False),
)

versions = Table(
    "versions",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("model_id", _key("models.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("digest", Text, nullable=False, unique=True),
    Column("content", Text, nullable=False),
    Column("manifest", LargeBinary, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("description", Text, nullable=False),
    Column("tags", Json, nullable=False),
    Column("properties", Json, nullable=False),
    Column("lineage", Json, nullable=False),
    Column("notes", Json, nullable=False),
    Column("archived", Boolean, nullable=False),
    Column("created", Double, nullable=False),
    UniqueConstraint("model_id", "number"),
    UniqueConstraint("model_id", "content"),
)

files = Table(
    "files",
    metadata,
    Column("version_id", _key("versions.id"), primary_key=True),
    Column("path", Text, primary_key=True),
    Column("role", Text, nullable=False),
    Column("digest", ForeignKey("blobs.digest"), nullable=False),
    Column("size", BigInteger, nullable=False),
    Index(None, "digest"),
)

bundles = Table(
    "bundles",  # versions as ZIP files, for modules that are told in the classic contract
    metadata,
    Column("version_id", _key("versions.id"), primary_key=True, autoincrement=False),
    Column("digest", ForeignKey("blobs.digest"), nullable=False),
    Column("md5", Text, nullable=False),
    Index(None, "digest"),
)

patches = Table(
    "patches",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("target", Text, nullable=False),
    Column("bases", Json, nullable=False),  # digests in the patch's own order
    Column("digest", ForeignKey("blobs.digest")),  # NULL: it was built, and not worth keeping
    Column("size", BigInteger, nullable=False),
    Column("level", Text, nullable=False),
    Column("created", Double, nullable=False),
    UniqueConstraint("target", "bases"),
    Index(None, "digest"),
)

patch_bases = Table(
    "patch_bases",
    metadata,
    Column("patch_id", _key("patches.id"), primary_key=True),
    Column("digest", Text, primary_key=True),
    Index(None, "digest"),
)

aliases = Table(
    "aliases",
    metadata,
    Column("model_id", _key("models.id"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("version_id", ForeignKey("versions.id"), nullable=False),
    Column("moved", Double, nullable=False),
    Index(None, "version_id"),
)

devices = Table(
    "devices",
    metadata,
    Column("id", Text, primary_key=True),
    Column("credential", Text, unique=True),  # hash of its bearer; NULL until it has one
    Column("created", Double, nullable=False),
    Column("seen", Double),
    Column("key", Text, unique=True),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("turn", BigInteger, nullable=False),
    Column("expires", Double, nullable=False),
)

identities = Table(
    "identities",  # as IoT Hub's clients know a device or module; their keys are symmetric, so the hub has to hold them
    metadata,
    Column("device", _key("devices.id"), primary_key=True),
    Column("module", Text, primary_key=True),  # "" for the device itself
    Column("generation", Text, nullable=False),
    Column("version", BigInteger, nullable=False),  # makes the etag
    Column("kind", Text, nullable=False),
    Column("primary_key", Text, nullable=False),
    Column("secondary_key", Text, nullable=False),
    Column("edge", Boolean, nullable=False),
    Column("managed_by", Text, nullable=False),
    Column("status_at", Double),
    Column("connection_at", Double),
    Column("active_at", Double),
)

twins = Table(
    "twins",
    metadata,
    Column("device", _key("devices.id"), primary_key=True),
    Column("module", Text, primary_key=True, default=""),  # "" for the device's own
    Column("version", BigInteger, nullable=False),  # of tags and desired together: makes the etag
    Column("tags", Json, nullable=False),
    Column("manual", Json, nullable=False),  # desired as operators wrote it; "desired" has deployments' models as well
    Column("desired", Json, nullable=False),
    Column("desired_metadata", Json, nullable=False),
    Column("desired_version", BigInteger, nullable=False),
    Column("reported", Json, nullable=False),
    Column("reported_metadata", Json, nullable=False),
    Column("reported_version", BigInteger, nullable=False),
    Column("heard", Json),  # series and numbers of the newest reports; NULL for none
)

holdings = Table(
    "holdings",
    metadata,
    Column("device", _key("devices.id"), primary_key=True),
    Column("module", Text, primary_key=True, default=""),
    Column("model", Text, primary_key=True),
    Column("role", Text, primary_key=True),
    Column("digest", Text, nullable=False),
    Index(None, "digest", "role"),
)

deployments = Table(
    "deployments",
    metadata,
    Column("serial", Serial, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("selector", Text, nullable=False),
    Column("ref", Text, nullable=False),
    Column("version_id", ForeignKey("versions.id"), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("created", Double, nullable=False),
    Column("changed", Double, nullable=False),
    Column("rollout", BigInteger),  # by which its version reaches devices; NULL: it holds for all of them
    Column("activate", Json),  # times of day in which devices may switch to it; NULL: always
    Column("classic", Text),  # module that is told in the classic contract; NULL: devices are told, in ours
    Column("labels", Json),
    Column("metrics", Json),
    Index(None, "version_id"),
    sqlite_autoincrement=True,
)

configurations = Table(
    "configurations",  # as deployments, of what is no model
    metadata,
    Column("id", Text, primary_key=True),
    Column("selector", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("content", Json, nullable=False),
    Column("labels", Json, nullable=False),
    Column("metrics", Json, nullable=False),
    Column("created", Double, nullable=False),
    Column("changed", Double, nullable=False),
    Column("version", BigInteger, nullable=False),  # makes the etag
)

rollouts = Table(
    "rollouts",
    metadata,
    Column("serial", Serial, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("deployment", Text, nullable=False),
    Column("version_id", _key("versions.id"), nullable=False),
    Column("before_id", ForeignKey("versions.id", ondelete="SET NULL")),  # what the deployment said; NULL: it is new
    Column("waves", Json, nullable=False),
    Column("gate", Json, nullable=False),
    Column("state", Text, nullable=False),
    Column("wave", Integer, nullable=False),
    Column("opened", Double, nullable=False),
    Column("good_since", Double),
    Column("reason", Text, nullable=False),
    Column("created", Double, nullable=False),
    Column("changed", Double, nullable=False),
    Column("ref", Text),  # as it was asked for; with "selector" and "terms" what it was started with
    Column("selector", Text),  # NULL: from before this was kept, and its deployment is gone
    Column("terms", Json),
    Column("held", Boolean),  # devices have the version beside, and wait for the switch
    Index(None, "state"),
    Index(None, "version_id"),
    Index(None, "before_id"),
    sqlite_autoincrement=True,
)

members = Table(
    "members",  # devices that a rollout gave its version to
    metadata,
    Column("rollout", _key("rollouts.serial"), primary_key=True),
    Column("device", _key("devices.id"), primary_key=True),
    Column("wave", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("evidence", Json, nullable=False),  # what it added to the tallies: taken out again when it says otherwise
    Column("at", Double, nullable=False),
    Index(None, "device"),
)

links = Table(
    "links",
    metadata,
    Column("name", Text, primary_key=True),  # what a device's tag "link" says
    Column("price", Double, nullable=False),  # of 1 000 000 bytes
    Column("currency", Text, nullable=False),
    Column("rate", BigInteger, nullable=False),  # bytes a second; 0: not known
    Column("windows", Json),  # times of day in which bytes may be moved; NULL: always
    Column("day", BigInteger),  # bytes that a device may move in a day; NULL: any
    Column("month", BigInteger),
)

layers = Table(
    "layers",  # settings of the devices that a selector matches
    metadata,
    Column("id", Text, primary_key=True),
    Column("selector", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("settings", Json, nullable=False),
    Column("changed", Double, nullable=False),
)

ledger = Table(
    "ledger",  # what was moved; stays when devices and versions go
    metadata,
    Column("day", Text, primary_key=True),
    Column("device", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("rollout", Text, primary_key=True),
    Column("link", Text, primary_key=True),
    Column("bytes", BigInteger, nullable=False),
    Column("money", Double, nullable=False),
    Column("currency", Text, nullable=False),
    Index(None, "device"),
    Index(None, "rollout"),
)

tallies = Table(
    "tallies",  # sums over a wave's members, so that nobody has to count them
    metadata,
    Column("rollout", _key("rollouts.serial"), primary_key=True),
    Column("wave", Integer, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("value", Double, nullable=False),
)

enrolments = Table(
    "enrolments",
    metadata,
    Column("id", Text, primary_key=True),
    Column("token", Text, nullable=False, unique=True),
    Column("device", Text, nullable=False),
    Column("tags", Json, nullable=False),
    Column("created", Double, nullable=False),
    Column("expires", Double, nullable=False),
    Column("used", Double),
    Column("used_by", Text, nullable=False),
    Column("approval", Boolean, nullable=False),
    Column("fleet", Text, nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("token", Text, nullable=False, unique=True),
    Column("created", Double, nullable=False),
    Column("expires", Double),
    Column("revoked", Boolean, nullable=False),
    Column("operator", Text, nullable=False),
    Column("grants", Json, nullable=False),
)

operators = Table(
    "operators",
    metadata,
    Column("name", Text, primary_key=True),
    Column("password", Text, nullable=False),
    Column("grants", Json, nullable=False),
    Column("created", Double, nullable=False),
    Column("oidc", Text, nullable=False),  # subject or e-mail that an admin named; "" for none
    Column("issuer", Text, nullable=False),  # with "subject": who they are there, once they have come; "" before
    Column("subject", Text, nullable=False),
)

setups = Table(
    "setups",
    metadata,
    Column("secret", Text, primary_key=True),
    Column("operator", Text, nullable=False),
    Column("grants", Json, nullable=False),
    Column("expires", Double, nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    Column("secret", Text, primary_key=True),
    Column("id", Text, nullable=False),
    Column("operator", Text, nullable=False),
    Column("expires", Double, nullable=False),
    Column("token", Text, nullable=False),  # id of the API token that it was begun with; "" for none
)

uploads = Table(
    "uploads",
    metadata,
    Column("operator", Text, primary_key=True),
    Column("digest", Text, primary_key=True),
)

audit = Table(
    "audit",
    metadata,
    Column("serial", BigInteger, primary_key=True, autoincrement=False),
    Column("at", Double, nullable=False),
    Column("who", Text, nullable=False),
    Column("via", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("before", Text, nullable=False),
    Column("after", Text, nullable=False),
    Column("chain", Text, nullable=False),
)

metadata_documents = Table(
    "metadata_documents",
    metadata,
    Column("role", Text, primary_key=True),
    Column("version", BigInteger, primary_key=True),
    Column("body", LargeBinary, nullable=False),
)

changes = Table(
    "changes",
    metadata,
    Column("serial", Serial, primary_key=True),
    Column("at", Double, nullable=False),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column(
        "detail", Text, nullable=False, server_default=sqlalchemy.text("''")
    ),  # what happened, where the kind does not say it
    Index(None, "subject", "serial"),
    sqlite_autoincrement=True,
)

counters = Table(
    "counters",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)

subscriptions = Table(
    "subscriptions",  # what a client of IoT Hub's kind hears of, also after it or the hub was away
    metadata,
    Column("device", Text, primary_key=True),
    Column("module", Text, primary_key=True),
    Column("filters", Json, nullable=False),
    Column("told", BigInteger, nullable=False),  # $version of desired that it was last told; 0: of none
    ForeignKeyConstraint(["device", "module"], ["identities.device", "identities.module"], ondelete="CASCADE"),
)

received = Table(
    "received",  # messages from devices and modules, the newest only; they outlive who sent them
    metadata,
    Column("serial", Serial, primary_key=True),
    Column("at", Double, nullable=False),
    Column("device", Text, nullable=False),
    Column("module", Text, nullable=False),
    Column("output", Text, nullable=False),
    Column("message", Text),  # the sender's own id: what is sent again is kept once
    Column("properties", Json, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("size", BigInteger, nullable=False),
    UniqueConstraint("device", "module", "message"),
    sqlite_autoincrement=True,
)

waiting = Table(
    "waiting",  # messages to devices and modules, until they acknowledge them
    metadata,
    Column("serial", Serial, primary_key=True),
    Column("device", Text, nullable=False),
    Column("module", Text, nullable=False),
    Column("input", Text, nullable=False),  # of a module; "" for a message to the device
    Column("packet", Integer, nullable=False),  # MQTT's identifier: the same each time it is sent
    Column("sent", Boolean, nullable=False),
    Column("at", Double, nullable=False),
    Column("expires", Double, nullable=False),
    Column("properties", Json, nullable=False),
    Column("body", LargeBinary, nullable=False),
    ForeignKeyConstraint(["device", "module"], ["identities.device", "identities.module"], ondelete="CASCADE"),
    UniqueConstraint("device", "module", "packet"),
    sqlite_autoincrement=True,
)


def upsert(tx: Connection, table: Table, values: dict[str, Any]) -> None:
    """Insert a row, or update the one with the same primary key."""
    engine: Any = postgresql if tx.dialect.name == "postgresql" else sqlite
    statement = engine.insert(table).values(values)
    keys = [column.name for column in table.primary_key]
    rest = {name: statement.excluded[name] for name in values if name not in keys}
    tx.execute(statement.on_conflict_do_update(index_elements=keys, set_=rest))
