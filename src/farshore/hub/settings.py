"""The hub's settings, read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from farshore.core.errors import Invalid

PREFIX = "FARSHORE_HUB_"
GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that may differ between two hubs.

    Attributes:
        data: folder of the hub: database, keys, spool, and objects unless ``store`` says otherwise.
        host: address to listen on.
        port: TCP port to listen on.
        public_url: how devices reach the hub; told to whoever makes an enrolment token.
        database: SQLAlchemy URL; empty for SQLite in ``data``.
        store: object store (:meth:`farshore.store.objects.Objects.open`); empty for a folder in ``data``.
        certificate: TLS certificate chain (PEM); empty for plain HTTP.
        certificate_key: its private key (PEM).
        ticket_seconds: life of a download ticket.
        enrolment_seconds: life of an enrolment token unless the operator says otherwise.
        sync_seconds: time between two syncs of a device that does not wait, before jitter.
        seen_seconds: how often "last seen" of devices is written down.
        held: most requests that wait for a change at one time.
        max_blob: bytes of the largest uploaded file.
        max_version: bytes of all files of one version, unpacked.
        threads: database work at one time.
        builders: patches built at one time, each in a process of its own; 0 builds none.
        patch_level: ``fast``, ``default`` or ``max``: how much work a patch is worth.
        patch_wait: seconds that a device which asks for a file may wait for a patch that is being built.
        patch_seconds: processor time that one patch may take.
        patch_memory: bytes of address space that building one patch may take, the mapped files included.
        max_patched: bytes of target and bases together above which no patch is built.

    """

    data: Path
    host: str = "127.0.0.1"
    port: int = 8400
    public_url: str = ""
    database: str = ""
    store: str = ""
    certificate: str = ""
    certificate_key: str = ""
    ticket_seconds: int = 600
    enrolment_seconds: int = 24 * 3600
    sync_seconds: int = 60
    seen_seconds: float = 5.0
    held: int = 10_000
    max_blob: int = 16 * GIB
    max_version: int = 32 * GIB
    threads: int = 16
    builders: int = 1
    patch_level: str = "default"
    patch_wait: float = 20.0
    patch_seconds: int = 1800
    patch_memory: int = 8 * GIB
    max_patched: int = 2 * GIB

    def __post_init__(self) -> None:
        if not 0 < self.port < 1 << 16:
            raise Invalid(f"port {self.port}: use a number from 1 to 65535")
        if bool(self.certificate) != bool(self.certificate_key):
            raise Invalid("TLS needs both: certificate and certificate_key")
        for name in ("ticket_seconds", "enrolment_seconds", "sync_seconds", "seen_seconds", "threads"):
            if getattr(self, name) <= 0:
                raise Invalid(f"{name} must be above 0")
        if self.builders < 0 or self.patch_wait < 0 or self.patch_seconds <= 0 or self.patch_memory <= 0:
            raise Invalid("builders and patch_wait must not be below 0, patch_seconds and patch_memory above it")
        if self.patch_level not in {"fast", "default", "max"}:
            raise Invalid(f"patch_level {self.patch_level[:40]!r}: use fast, default or max")

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.data.absolute() / 'hub.sqlite3'}"

    @property
    def store_url(self) -> str:
        return self.store or str(self.data.absolute() / "objects")

    @property
    def url(self) -> str:
        """Where devices find this hub."""
        if self.public_url:
            return self.public_url.rstrip("/")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.certificate else 'http'}://{host}:{self.port}"


def read(environment: Mapping[str, str], **given: Any) -> Settings:
    """Settings from ``FARSHORE_HUB_…`` variables, overruled by what is given and not None.

    Raises:
        Invalid: a variable does not fit its setting; the message names it.

    """
    values: dict[str, Any] = {"data": Path("farshore-hub")}
    kinds = {"Path": Path, "int": int, "float": float, "str": str}
    for field in fields(Settings):
        variable = PREFIX + field.name.upper()
        text = environment.get(variable)
        if text:
            try:
                values[field.name] = kinds[str(field.type)](text)
            except ValueError:
                raise Invalid(f"{variable}={text[:80]!r}: a number is needed") from None
    values |= {name: value for name, value in given.items() if value is not None}
    return Settings(**values)
