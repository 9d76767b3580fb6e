"""What the agent says to the inference server on the same machine, over the unix socket in the device's root folder.

HTTP/1.1 with JSON bodies; only who may open the socket may speak. Routes (``docs/formats/control.md``):

* ``GET  /control/models`` → :class:`Status`
* ``POST /control/models/{model}/probe``  :class:`Target` → :class:`Probe`: start a worker, load, warm, answer the
  acceptance cases; the worker stays warm as candidate. Safe to ask twice.
* ``POST /control/models/{model}/shadow`` :class:`Shadow` → ``{}``: let a candidate answer a share of the requests, unseen by
  those who ask, and compare. Safe to ask twice.
* ``POST /control/models/{model}/switch`` :class:`Target` → :class:`Switch`: lease new requests to that version, drain and
  end the old worker. Safe to ask twice.
* ``POST /control/models/{model}/drop``   :class:`Target` → ``{}``: end that candidate's worker.

The server reads a version's files from the slots (``store.slots``) by its manifest digest; nothing else is passed.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from farshore.core.errors import Invalid
from farshore.core.manifest import Count, DigestText, Short
from farshore.core.sketch import Sketch
from farshore.core.wire import Fault

SOCKET = "serve.sock"
"""Name of the socket inside the device's root folder."""

COUNTED = "agent/boot"
"""Name of the file, inside the root folder, in which the agent notes which start of the machine it has counted."""

MAX_SOCKET = 103
"""Bytes that a socket's path may have: what the strictest system takes."""


class Target(Struct, frozen=True):
    """Which version is meant: the digest of its manifest."""

    digest: DigestText


class Shadow(Struct, frozen=True):
    """Which candidate is to answer how large a share of the requests, beside the version that answers them; 0 for none any more."""

    digest: DigestText
    share: Annotated[float, Meta(ge=0, le=1)]


class CaseResult(Struct, frozen=True, omit_defaults=True):
    """Outcome of one acceptance case; ``why`` says in one line what was missed."""

    name: Short
    ok: bool
    why: str = ""


class Probe(Struct, frozen=True, omit_defaults=True):
    """Whether a candidate may take traffic.

    Attributes:
        ok: loaded, warmed and every case passed.
        fault: why not.
        cases: each acceptance case.
        load_seconds: from process start to ready.
        memory: bytes the candidate's process holds (proportional set size).

    """

    ok: bool
    fault: Fault | None = None
    cases: tuple[CaseResult, ...] = ()
    load_seconds: Annotated[float, Meta(ge=0)] = 0.0
    memory: Count = 0


class Switch(Struct, frozen=True, omit_defaults=True):
    """Attributes: ``digest`` what answers now; ``gap_seconds`` longest time around the switch in which nothing was answered
    though requests waited; ``drained`` requests the old version still answered.
    """

    digest: DigestText
    gap_seconds: Annotated[float, Meta(ge=0)] = 0.0
    drained: Count = 0


class Serving(Struct, frozen=True, omit_defaults=True):
    """One loaded version: counts since its worker took traffic.

    Attributes:
        digest: the manifest's.
        version: its number.
        requests: answered (any status).
        errors: answered with 5xx.
        crashes: times its worker died.
        seconds: since it took traffic.
        ready: whether it answers now.
        latency: 95th percentile of the seconds that its newest requests took; 0 while there were too few.
        memory: bytes its worker holds (proportional set size); 0 if not known.
        compared: answers that were compared with those of the version that leads; ``agreed``: the shares by which they were
            the same, in sum, rounded.
        share: of the requests that it answers unseen; 0 if it runs as no shadow. Its counts are then the shadow's.
        sketch: what both versions found in the answers compared.

    """

    digest: DigestText
    version: int
    requests: Count = 0
    errors: Count = 0
    crashes: Count = 0
    seconds: Annotated[float, Meta(ge=0)] = 0.0
    ready: bool = True
    latency: Annotated[float, Meta(ge=0)] = 0.0
    memory: Count = 0
    compared: Count = 0
    agreed: Count = 0
    share: Annotated[float, Meta(ge=0, le=1)] = 0.0
    sketch: Sketch | None = None


class ModelStatus(Struct, frozen=True, omit_defaults=True):
    """Attributes: ``serving`` the version that takes requests; ``candidate`` a warm probed one."""

    serving: Serving | None = None
    candidate: Serving | None = None


class Status(Struct, frozen=True):
    """Attributes: ``runtimes`` installed here; ``models`` by name."""

    runtimes: tuple[str, ...]
    models: dict[str, ModelStatus]


def check_socket(path: bytes) -> None:
    """Refuse a root folder whose socket no system call could name.

    Args:
        path: of the socket, as the file system writes it.

    Raises:
        Invalid: it is too long.

    """
    if len(path) > MAX_SOCKET:
        raise Invalid(
            f"the socket's path is {len(path)} bytes long and the system takes {MAX_SOCKET}: choose a shorter root folder"
        )
