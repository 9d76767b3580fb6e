"""The agent's side of the talk with the inference server on the same machine (``docs/formats/control.md``)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec
from msgspec import Struct
from urllib3.exceptions import HTTPError

from farshore.agent.state import Server
from farshore.agent.unix import UnixPool
from farshore.core import control, documents, errors
from farshore.core.control import Probe, Shadow, Status, Switch, Target
from farshore.core.digest import Digest
from farshore.core.errors import Corrupt, FarshoreError, NotFound, Unavailable
from farshore.core.wire import Fault
from farshore.store.slots import Slots

T = TypeVar("T")

STATUS_SECONDS = 5.0
MAX_ANSWER = 1 << 20


class Runtime(Protocol):
    """What runs the versions."""

    def look(self) -> Server:
        """What it does now."""
        ...

    def probe(self, model: str, digest: Digest) -> Probe:
        """Load a version apart and try it. Safe to ask twice.

        Raises:
            Unavailable: no answer.

        """
        ...

    def shadow(self, model: str, digest: Digest, share: float) -> None:
        """Let a version answer a share of the requests unseen; 0 for none any more. Safe to ask twice.

        Raises:
            Conflict, NotFound: that cannot be here.
            FarshoreError: it cannot live, or nobody answers.

        """
        ...

    def switch(self, model: str, digest: Digest) -> float:
        """Send requests to a version; returns the seconds without an answer. Safe to ask twice.

        Raises:
            FarshoreError: it goes on as it was.

        """
        ...

    def drop(self, model: str, digest: Digest) -> None:
        """End a version's worker."""
        ...


class NoRuntime:
    """A device that only keeps the files: a probe re-reads them, and whoever reads ``current`` uses them.

    Args:
        slots: the versions.

    """

    def __init__(self, slots: Slots) -> None:
        self._slots = slots

    def look(self) -> Server:
        return "none"

    def probe(self, model: str, digest: Digest) -> Probe:
        try:
            self._slots.verify(self._slots.find(model, digest))
        except Corrupt as error:
            return Probe(ok=False, fault=Fault(error.code, error.message[:1024]))
        return Probe(ok=True)

    def shadow(self, model: str, digest: Digest, share: float) -> None:
        raise NotFound("nothing answers here that it could be compared with")

    def switch(self, model: str, digest: Digest) -> float:
        return 0.0

    def drop(self, model: str, digest: Digest) -> None:
        pass


class _FaultBody(Struct):
    error: Fault


class SocketRuntime:
    """The inference server behind ``<root>/serve.sock``.

    Args:
        root: the device's folder.
        patience: seconds that a probe or switch may take.

    Raises:
        Invalid: the folder's name is too long to hold a socket.

    """

    def __init__(self, root: Path, patience: float) -> None:
        path = root / control.SOCKET
        control.check_socket(os.fsencode(path))
        self._quick = UnixPool(path, STATUS_SECONDS)
        self._slow = UnixPool(path, patience)

    def look(self) -> Server:
        try:
            return self._ask(self._quick, "GET", "/control/models", None, Status)
        except FarshoreError:
            return "away"

    def probe(self, model: str, digest: Digest) -> Probe:
        return self._ask(self._slow, "POST", f"/control/models/{model}/probe", Target(digest), Probe)

    def shadow(self, model: str, digest: Digest, share: float) -> None:
        self._ask(self._slow, "POST", f"/control/models/{model}/shadow", Shadow(digest, share), dict)

    def switch(self, model: str, digest: Digest) -> float:
        reply = self._ask(self._slow, "POST", f"/control/models/{model}/switch", Target(digest), Switch)
        if reply.digest != digest:
            raise Unavailable(f"the inference server answers with {reply.digest} instead of {digest}")
        return reply.gap_seconds

    def drop(self, model: str, digest: Digest) -> None:
        self._ask(self._quick, "POST", f"/control/models/{model}/drop", Target(digest), dict)

    def close(self) -> None:
        """Close all connections."""
        self._quick.close()
        self._slow.close()

    def _ask(self, pool: UnixPool, method: str, path: str, body: Struct | None, kind: type[T]) -> T:
        data = None if body is None else msgspec.json.encode(body)
        headers = {"Content-Type": "application/json", "Content-Length": str(len(data or b""))}
        try:
            response = pool.request(
                method, path, body=data, headers=headers, retries=False, redirect=False, preload_content=False
            )
            with response:
                answer = response.read(MAX_ANSWER + 1)
        except (HTTPError, OSError) as error:
            raise Unavailable(f"the inference server does not answer ({type(error).__name__})") from error
        if response.status == 200:
            return documents.decode(answer, kind, what="the inference server's answer")
        fault = documents.decode(answer, _FaultBody, what="the inference server's error").error
        raise errors.from_code(fault.code, fault.message)
