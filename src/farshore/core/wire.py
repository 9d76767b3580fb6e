"""What devices and hub say to each other, and what stands in a twin about models.

Every request and reply of the device API as a checked type. Unknown members are ignored, so that an older peer still
understands a newer one. Routes and examples: ``docs/formats/wire.md``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from farshore.core import documents, twin
from farshore.core.errors import Invalid
from farshore.core.manifest import Count, DigestText, Name, Short

API = "/device/v1"
MAX_WAIT = 120
MAX_HAVE = 512

Token = Annotated[str, Meta(min_length=16, max_length=128, pattern=r"^[A-Za-z0-9_-]+\Z")]
Version = Annotated[int, Meta(ge=1, le=1 << 31)]
Retry = Annotated[int, Meta(ge=0, le=1 << 31)]
State = Literal["waiting", "downloading", "installing", "probing", "activating", "trial", "running", "failed"]


class EnrolRequest(Struct, frozen=True, omit_defaults=True):
    """``POST /device/v1/enrol``: turn a one-time token into a device of its own.

    The device makes its credential itself and stores it before it asks, so that asking again after a lost reply, with the
    same token and credential, gives the same answer.

    Attributes:
        token: one-time, from the operator.
        device: the id it wants; may be fixed by the token.
        credential: 256 secret bits, base64url; later requests carry it as ``Authorization: Bearer``.

    """

    token: Token
    device: Name
    credential: Token


class EnrolReply(Struct, frozen=True, omit_defaults=True):
    """Attributes: ``device`` the id it got; ``keys`` public keys that sign manifests (``ed25519:…``)."""

    device: Name
    keys: Annotated[tuple[str, ...], Meta(min_length=1, max_length=16)]


class SyncRequest(Struct, frozen=True, omit_defaults=True):
    """``POST /device/v1/sync``: a whole sync in one round trip.

    Attributes:
        seen: ``$version`` of the desired section that the device holds; 0 for none.
        reported: merge patch of what changed since the last accepted report; None for nothing.
        wait: seconds the hub may hold the request while desired is unchanged; only honoured without ``reported``.

    """

    seen: Annotated[int, Meta(ge=0, le=1 << 53)] = 0
    reported: dict[str, Any] | None = None
    wait: Annotated[int, Meta(ge=0, le=MAX_WAIT)] = 0


class SyncReply(Struct, frozen=True, omit_defaults=True):
    """Attributes: ``desired`` the whole section with ``$version`` if it is newer than ``seen``, else None; ``retry`` seconds
    until the next sync, with jitter already in it.
    """

    desired: dict[str, Any] | None = None
    retry: Annotated[float, Meta(ge=0, le=86400)] = 0


class TicketRequest(Struct, frozen=True, omit_defaults=True):
    """``POST /device/v1/tickets``: how do I get the bytes named ``want``, given that I hold ``have``?"""

    want: DigestText
    have: Annotated[tuple[DigestText, ...], Meta(max_length=MAX_HAVE)] = ()


class Route(Struct, frozen=True, omit_defaults=True):
    """One way to the wanted bytes: a static object to fetch by ranges.

    Attributes:
        url: absolute, or a path on the hub; carries its own short-lived permission.
        digest: of the object itself (the wanted digest when whole, the patch's when a patch).
        size: of the object in bytes.
        kind: ``whole`` or ``patch``.
        bases: of a patch: the digests it needs, in order.

    """

    url: Annotated[str, Meta(max_length=8192)]
    digest: DigestText
    size: Count
    kind: Literal["whole", "patch"] = "whole"
    bases: Annotated[tuple[DigestText, ...], Meta(max_length=64)] = ()


class TicketReply(Struct, frozen=True, omit_defaults=True):
    """Attributes: ``routes`` cheapest first, the whole object last; ``expires`` seconds from now."""

    routes: Annotated[tuple[Route, ...], Meta(min_length=1, max_length=16)]
    expires: Count


class DesiredModel(Struct, frozen=True, omit_defaults=True):
    """``desired.models.<key>``: which version a device should run. A small pointer, never a URL.

    Attributes:
        version: the registry's number, for people.
        digest: of the manifest: what is meant.
        retry: a device that gave a version up tries it again when an operator changes this number.

    """

    version: Version
    digest: DigestText
    retry: Retry = 0


class Fault(Struct, frozen=True, omit_defaults=True):
    """An error in a report: a code of :mod:`farshore.core.errors` and one line."""

    code: Short
    message: Annotated[str, Meta(max_length=1024)]


class Target(Struct, frozen=True, omit_defaults=True):
    """``reported.models.<key>.target``: what the device is doing about a desired version that it does not run yet.

    Attributes:
        version: of the manifest named by ``digest`` (0 when the manifest is not known yet).
        digest: the manifest's.
        state: how far it is.
        done: bytes of files here already; ``size``: of all that are needed.
        fault: why it failed or waits.

    """

    digest: DigestText
    state: State
    version: Annotated[int, Meta(ge=0, le=1 << 31)] = 0
    done: Count = 0
    size: Count = 0
    fault: Fault | None = None


class Running(Struct, frozen=True, omit_defaults=True):
    """A version on a device: number, manifest digest and the variant chosen there."""

    version: Version
    digest: DigestText
    variant: Short = ""


class ReportedModel(Struct, frozen=True, omit_defaults=True):
    """``reported.models.<key>``: what is true on the device.

    Attributes:
        current: the version that answers; None if none does.
        previous: kept beside it for going back.
        target: work in progress or failed; None when current is what is desired.
        fetched: bytes moved over the network for this model since enrolment.

    """

    current: Running | None = None
    previous: Running | None = None
    target: Target | None = None
    fetched: Count = 0


def desired_models(desired: dict[str, Any]) -> dict[str, DesiredModel]:
    """The models that a desired section names, by model name.

    Raises:
        Invalid: ``models`` is there but malformed; the message has the path.

    """
    found = documents.convert(desired.get("models", {}), dict[str, DesiredModel], what="desired.models")
    if len(found) > 1000:
        raise Invalid("desired.models: more than 1000 models")
    return {twin.name_of(key): value for key, value in found.items()}


def reported_models(reported: dict[str, Any]) -> dict[str, ReportedModel]:
    """The models that a reported section speaks of, by model name.

    Raises:
        Invalid: ``models`` is there but malformed.

    """
    found = documents.convert(reported.get("models", {}), dict[str, ReportedModel], what="reported.models")
    return {twin.name_of(key): value for key, value in found.items()}
