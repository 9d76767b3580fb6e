"""The hub's settings, read once."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from farshore.core.errors import Invalid
from farshore.tls import peer

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
        direct: devices fetch objects from the store itself, by addresses that it signs (SAS, presigned), not through the hub.
        names: further host names and addresses by which the hub is reached, with commas; its own certificate is made for them.
        certificate: TLS certificate chain (PEM); empty for one of the hub's own authority, or plain HTTP on loopback.
        certificate_key: its private key (PEM).
        client_ca: PEM file with authorities: only who has a certificate by one of them reaches the hub at all; empty for all.
        iothub_port: TCP port for clients that speak IoT Hub's MQTT (8883 is what their SDKs know); 0 for none.
        iothub_websocket_port: the same over websockets; 0 for none.
        iothub_client_ca: PEM file with authorities whose certificates prove devices that have no symmetric key.
        new_admin: print a setup link for the admin at the start, also when there are operators: for who lost every password.
        insecure_http: speak plain HTTP also beyond this machine.
        ticket_seconds: life of a download ticket.
        enrolment_seconds: life of an enrolment token unless the operator says otherwise.
        bearer_seconds: life of a device's bearer, renewed by its key.
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
        signed_by: PEM files of the public keys whose OpenSSF Model Signing bundles are believed, with ``:`` between them.
        require_signature: refuse a push without such a bundle.
        oidc_issuer: OpenID Connect issuer by which operators may log in; empty for none.
        oidc_client_id: the hub's client id there.
        oidc_client_secret_file: file with its secret; empty for a public client.

    """

    data: Path
    host: str = "127.0.0.1"
    port: int = 8400
    public_url: str = ""
    database: str = ""
    store: str = ""
    direct: bool = False
    names: str = ""
    certificate: str = ""
    certificate_key: str = ""
    client_ca: str = ""
    iothub_port: int = 0
    iothub_websocket_port: int = 0
    iothub_client_ca: str = ""
    insecure_http: bool = False
    new_admin: bool = False
    ticket_seconds: int = 600
    enrolment_seconds: int = 24 * 3600
    bearer_seconds: int = 7 * 24 * 3600
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
    signed_by: str = ""
    require_signature: bool = False
    oidc_issuer: str = ""
    oidc_client_id: str = ""
    oidc_client_secret_file: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.port < 1 << 16:
            raise Invalid(f"port {self.port}: use a number from 1 to 65535")
        for name in ("iothub_port", "iothub_websocket_port"):
            if not 0 <= getattr(self, name) < 1 << 16:
                raise Invalid(f"{name} {getattr(self, name)}: use a number from 1 to 65535, or 0 for none")
        if (self.iothub_websocket_port or self.iothub_client_ca) and not self.iothub_port:
            raise Invalid("iothub_port is needed too: 8883 is what IoT Hub's clients know")
        if bool(self.certificate) != bool(self.certificate_key):
            raise Invalid("TLS needs both: certificate and certificate_key")
        if self.client_ca and not (self.certificate or self.own_authority):
            raise Invalid("client certificates need TLS: listen beyond this machine, or give a certificate")
        if bool(self.oidc_issuer) != bool(self.oidc_client_id) or (
            self.oidc_client_secret_file and not self.oidc_issuer
        ):
            raise Invalid("OpenID Connect needs both: oidc_issuer and oidc_client_id")
        for name in (
            "ticket_seconds",
            "enrolment_seconds",
            "bearer_seconds",
            "sync_seconds",
            "seen_seconds",
            "threads",
        ):
            if getattr(self, name) <= 0:
                raise Invalid(f"{name} must be above 0")
        if self.builders < 0 or self.patch_wait < 0 or self.patch_seconds <= 0 or self.patch_memory <= 0:
            raise Invalid("builders and patch_wait must not be below 0, patch_seconds and patch_memory above it")
        if self.patch_level not in {"fast", "default", "max"}:
            raise Invalid(f"patch_level {self.patch_level[:40]!r}: use fast, default or max")

    @property
    def believed(self) -> tuple[Path, ...]:
        """PEM files of keys whose signatures on pushed models are believed."""
        return tuple(Path(path) for path in self.signed_by.split(os.pathsep) if path)

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.data.absolute() / 'hub.sqlite3'}"

    @property
    def store_url(self) -> str:
        return self.store or str(self.data.absolute() / "objects")

    @property
    def development(self) -> bool:
        """Whether nobody but this machine's own people reach the hub."""
        public = urlsplit(self.public_url).hostname if self.public_url else None
        return peer.is_loopback(self.host) and (public is None or peer.is_loopback(public))

    @property
    def own_authority(self) -> bool:
        """Whether the hub is its own certificate authority: it listens beyond this machine, and was given no certificate."""
        return not (self.certificate or self.insecure_http or peer.is_loopback(self.host))

    @property
    def reached_by(self) -> tuple[str, ...]:
        """Every name and address by which the hub may be reached, the most telling first."""
        everywhere = self.host in {"0.0.0.0", "::"}  # noqa: S104 - asked for, not chosen
        public = urlsplit(self.public_url).hostname if self.public_url else None
        own = [socket.gethostname(), *_addresses(), "localhost", "127.0.0.1", "::1"] if everywhere else [self.host]
        found = (public, *(name.strip() for name in self.names.split(",")), *own)
        return tuple(dict.fromkeys(name for name in found if name))

    @property
    def iothub_names(self) -> tuple[str, ...]:
        """Every name by which IoT Hub's clients may know this hub, and tokens for it be made."""
        own = ("localhost", "127.0.0.1", "::1") if peer.is_loopback(self.host) else ()
        return tuple(dict.fromkeys((*self.reached_by, *own)))

    @property
    def url(self) -> str:
        """Where devices find this hub."""
        if self.public_url:
            return self.public_url.rstrip("/")
        host = self.reached_by[0]
        host = f"[{host}]" if ":" in host else host
        return f"{'https' if self.certificate or self.own_authority else 'http'}://{host}:{self.port}"


def _addresses() -> list[str]:
    """This machine's addresses, as its own name resolves."""
    try:
        found = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return sorted({str(one[4][0]).partition("%")[0] for one in found})


def read(environment: Mapping[str, str], **given: Any) -> Settings:
    """Settings from ``FARSHORE_HUB_…`` variables, overruled by what is given and not None.

    Raises:
        Invalid: a variable does not fit its setting; the message names it.

    """
    values: dict[str, Any] = {"data": Path("farshore-hub")}
    kinds: dict[str, Callable[[str], Any]] = {"Path": Path, "int": int, "float": float, "str": str, "bool": _flag}
    for field in fields(Settings):
        variable = PREFIX + field.name.upper()
        text = environment.get(variable)
        if text:
            try:
                values[field.name] = kinds[str(field.type)](text)
            except ValueError as error:
                needed = error if field.type == "bool" else "a number is needed"
                raise Invalid(f"{variable}={text[:80]!r}: {needed}") from None
    values |= {name: value for name, value in given.items() if value is not None}
    return Settings(**values)


def _flag(text: str) -> bool:
    if text.lower() not in {"0", "1", "false", "true", "no", "yes"}:
        raise ValueError("use 1 or 0")
    return text.lower() in {"1", "true", "yes"}
