"""Shared access policies: the keys by which services that speak IoT Hub's dialect reach this hub, and what each may do.

The names and rights are those that every IoT Hub begins with
(https://learn.microsoft.com/azure/iot-hub/iot-hub-dev-guide-sas#access-control-and-permissions). Keys are made at first use and lie
beside the hub's other secrets.
"""

from __future__ import annotations

import base64
import secrets
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from msgspec import Struct

from farshore.core import documents
from farshore.core.errors import Denied, Invalid, NotFound, Unauthenticated
from farshore.mqtt import sas
from farshore.store import files

Right = Literal["RegistryRead", "RegistryWrite", "ServiceConnect", "DeviceConnect"]
POLICIES: Mapping[str, frozenset[Right]] = {
    "iothubowner": frozenset({"RegistryRead", "RegistryWrite", "ServiceConnect", "DeviceConnect"}),
    "service": frozenset({"ServiceConnect"}),
    "device": frozenset({"DeviceConnect"}),
    "registryRead": frozenset({"RegistryRead"}),
    "registryReadWrite": frozenset({"RegistryRead", "RegistryWrite"}),
}
MAX_FILE = 64 << 10


class Policy(Struct, frozen=True, forbid_unknown_fields=True):
    """A policy's keys, base64."""

    primary: str
    secondary: str


class Policies:
    """All policies.

    Args:
        path: of the file with their keys; made at first use.

    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._known: dict[str, Policy] | None = None

    def one(self, name: str) -> Policy:
        """A policy's keys.

        Raises:
            NotFound: there is no such policy.
            Invalid: the file was damaged.

        """
        _check_name(name)
        with self._lock:
            return self._every()[name]

    def renew(self, name: str, *, both: bool) -> Policy:
        """Make a policy's primary key anew. The one before goes on as secondary until the next time, unless both are made anew.

        Raises:
            NotFound, Invalid: as :meth:`one`.
            Unavailable: the disk does not take it; the keys are as they were.

        """
        _check_name(name)
        with self._lock:
            before = self._every()
            made = Policy(make_key(), make_key() if both else before[name].primary)
            self._known = self._write({**before, name: made})
            return made

    def check(self, header: str | None, hosts: Iterable[str], path: str, right: Right, now: float) -> str:
        """Who sent a request, by its ``Authorization`` header.

        Args:
            header: as it came.
            hosts: every name by which this hub is known.
            path: of what is asked, as it stands in the request, without the host.
            right: that it takes.
            now: seconds since the epoch.

        Returns:
            the policy's name.

        Raises:
            Unauthenticated: no token, or one that proves nothing here.
            Denied: the policy does not include that right.

        """
        if header is None:
            raise Unauthenticated("no token: send Authorization: SharedAccessSignature …")
        token = sas.parse(header)
        if token.policy not in POLICIES:
            raise Unauthenticated(f"token: skn has to name a policy: {', '.join(POLICIES)}")
        policy = self.one(token.policy)
        sas.verify(token, (policy.primary, policy.secondary), now)
        if not sas.covers(token, hosts, path):
            raise Unauthenticated(f"token: it is for {token.resource[:200]!r}, which is not this, or not this hub")
        if right not in POLICIES[token.policy]:
            raise Denied(f"policy {token.policy} does not include {right}")
        return token.policy

    def _every(self) -> dict[str, Policy]:
        if self._known is None:
            made = {name: Policy(make_key(), make_key()) for name in POLICIES}
            self._known = self._read() if self._path.exists() else self._write(made)
        return self._known

    def _read(self) -> dict[str, Policy]:
        found = documents.decode(self._path.read_bytes(), dict[str, Policy], what=str(self._path), limit=MAX_FILE)
        if found.keys() != POLICIES.keys():
            raise Invalid(f"{self._path} lacks policies: restore it from a backup")
        for one in found.values():
            sas.check_key(one.primary)
            sas.check_key(one.secondary)
        return found

    def _write(self, policies: dict[str, Policy]) -> dict[str, Policy]:
        files.write_atomic(self._path, documents.canonical(policies), mode=0o600)
        return policies


def _check_name(name: str) -> None:
    if name not in POLICIES:
        raise NotFound(f"no policy {name[:80]!r}: there are {', '.join(POLICIES)}")


def make_key() -> str:
    """A symmetric key."""
    return base64.b64encode(secrets.token_bytes(sas.KEY)).decode()
