"""What devices and hub say to each other, and what stands in a twin about models.

Every request and reply of the device API as a checked type. Unknown members are ignored, so that an older peer still
understands a newer one. Routes and examples: ``docs/formats/wire.md``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Raw, Struct

from farshore.core import documents, twin, windows
from farshore.core.errors import Invalid
from farshore.core.manifest import Count, DigestText, Name, Short
from farshore.core.sketch import Sketch

API = "/device/v1"
MAX_WAIT = 120
MAX_HAVE = 512
MAX_ROLES = 4096
MAX_WRONG = 8

Token = Annotated[str, Meta(min_length=16, max_length=128, pattern=r"^[A-Za-z0-9_-]+\Z")]
KeyText = Annotated[str, Meta(pattern=r"^ed25519:[A-Za-z0-9+/]{43}=\Z")]
SignatureText = Annotated[str, Meta(max_length=128)]
Hash = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Turn = Annotated[int, Meta(ge=0, le=1 << 53)]
Version = Annotated[int, Meta(ge=1, le=1 << 31)]
Retry = Annotated[int, Meta(ge=0, le=1 << 31)]
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
Windows = Annotated[
    tuple[Annotated[str, Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\dZ?\Z")], ...],
    Meta(max_length=16),
]
State = Literal[
    "waiting", "downloading", "installing", "probing", "shadow", "ready", "activating", "trial", "running", "failed"
]  # fmt: skip
"""``shadow`` and ``ready`` are only said by who was asked for them, so that a hub which knows neither never hears them."""


class EnrolRequest(Struct, frozen=True, omit_defaults=True):
    """``POST /device/v1/enrol``: turn a one-time token, or a key that an operator announced, into a device of its own.

    The device makes its key and its first bearer itself and stores them before it asks, so that asking again after a lost
    reply gives the same answer. The request holds no secret but the token, so that nobody gains by repeating it.

    Attributes:
        device: the id it wants; may be fixed by the token.
        key: its public key (``ed25519:…``).
        bearer: SHA-256, in hex, of the bearer that later requests carry (``Authorization: Bearer``).
        signature: of :meth:`statement` by the key: who asks holds it.
        token: one-time, from the operator; "" for a key that was announced.

    """

    device: Name
    key: KeyText
    bearer: Hash
    signature: SignatureText = ""
    token: Annotated[str, Meta(max_length=128, pattern=r"^([A-Za-z0-9_-]{16,})?\Z")] = ""

    def statement(self) -> bytes:
        """The bytes that are signed."""
        return documents.canonical(["farshore-enrol/1", self.device, self.key, self.bearer, self.token])


class EnrolReply(Struct, frozen=True, omit_defaults=True):
    """Attributes: ``device`` the id it got; ``roots`` the hub's whole line of trust roots, first to last; ``pending``
    while an operator has yet to approve.
    """

    device: Name
    roots: Annotated[tuple[Raw, ...], Meta(min_length=1, max_length=256)]
    pending: bool = False


class ChallengeRequest(Struct, frozen=True, omit_defaults=True):
    """``POST /device/v1/challenge``: something fresh to sign, for whoever says to be ``device``."""

    device: Name


class ChallengeReply(Struct, frozen=True, omit_defaults=True):
    """Attributes: ``challenge``, good for a few minutes and one renewal."""

    challenge: Annotated[str, Meta(min_length=16, max_length=128)]


class RenewRequest(Struct, frozen=True, omit_defaults=True):
    """``POST /device/v1/renew``: a new bearer for a device that proves to hold its key. It holds no secret.

    Attributes:
        device: its id.
        turn: renewals that this device knows of. A copy of a device and the device itself come to know different numbers.
        challenge: from the hub, just now.
        bearer: SHA-256, in hex, of the bearer that the device made.
        signature: of :meth:`statement` by the device's key.

    """

    device: Name
    turn: Turn
    challenge: Annotated[str, Meta(max_length=128)]
    bearer: Hash
    signature: SignatureText = ""

    def statement(self) -> bytes:
        """The bytes that are signed."""
        return documents.canonical(["farshore-renew/1", self.device, self.turn, self.challenge, self.bearer])


class RenewReply(Struct, frozen=True, omit_defaults=True):
    """Attributes: ``turn`` renewals up to now, to be said at the next; ``expires`` seconds that the bearer lives."""

    turn: Turn
    expires: Count


class News(Struct, frozen=True, omit_defaults=True):
    """What is signed in a sync reply (``docs/formats/trust.md``). The parts are carried as they were signed, byte for byte.

    Attributes:
        order: the director's order, answering the request's nonce.
        roots: those after the one that the device holds, in order.
        metadata: by role: what the device lacks of timestamp, snapshot, targets, and of its models' publishers.

    """

    order: Raw
    roots: Annotated[tuple[Raw, ...], Meta(max_length=256)] = ()
    metadata: Annotated[dict[str, Raw], Meta(max_length=MAX_ROLES)] = {}


class SyncRequest(Struct, frozen=True, omit_defaults=True):
    """``POST /device/v1/sync``: a whole sync in one round trip.

    Attributes:
        seen: ``$version`` of the desired section that the device holds; 0 for none.
        reported: merge patch of what changed since the last accepted report; None for nothing.
        wait: seconds the hub may hold the request while desired is unchanged; only honoured without ``reported``.
        nonce: a fresh random text; the hub's order echoes it.
        have: versions of the signed metadata that the device holds, by role.
        series, number: which report this is: every start of the agent names a series, in which its reports are counted from 1. So one
            that comes late, or again, is not taken for news. "" and 0 from who does not count.

    """

    seen: Annotated[int, Meta(ge=0, le=1 << 53)] = 0
    reported: dict[str, Any] | None = None
    wait: Annotated[int, Meta(ge=0, le=MAX_WAIT)] = 0
    nonce: Annotated[str, Meta(max_length=64, pattern=r"^([A-Za-z0-9_-]{16,})?\Z")] = ""
    have: Annotated[dict[Annotated[str, Meta(max_length=128)], Count], Meta(max_length=MAX_ROLES)] = {}
    series: Annotated[str, Meta(max_length=32, pattern=r"^[A-Za-z0-9_-]*\Z")] = ""
    number: Count = 0


class SyncReply(Struct, frozen=True, omit_defaults=True):
    """Attributes: ``desired`` the whole section with ``$version`` if it is newer than ``seen``, else None; ``retry`` seconds
    until the next sync, with jitter already in it; ``trust`` what is signed, when a nonce was given.
    """

    desired: dict[str, Any] | None = None
    retry: Annotated[float, Meta(ge=0, le=86400)] = 0
    trust: News | None = None


class TicketRequest(Struct, frozen=True, omit_defaults=True):
    """``POST /device/v1/tickets``: how do I get the bytes named ``want``, given that I hold ``have``?

    Attributes:
        want: the bytes.
        have: what may serve as bases.
        wrong: patches that came here and were damaged or led elsewhere: the hub looks at its own copies.

    """

    want: DigestText
    have: Annotated[tuple[DigestText, ...], Meta(max_length=MAX_HAVE)] = ()
    wrong: Annotated[tuple[DigestText, ...], Meta(max_length=MAX_WRONG)] = ()


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


class Shadow(Struct, frozen=True, omit_defaults=True):
    """Before its trial a version answers some of the requests unseen, and its answers are compared with the version's before it.

    Attributes:
        share: of the requests that are answered, those that it answers, too.
        answers: compared, after which it is over.
        seconds: after which it is over, however few were asked.

    """

    share: Annotated[float, Meta(gt=0, le=1)]
    answers: Annotated[int, Meta(ge=1, le=1 << 31)] = 200
    seconds: Annotated[float, Meta(ge=0, le=365 * 86400)] = 3600.0


class Conditions(Struct, frozen=True, omit_defaults=True):
    """What a version must show before it is confirmed, beyond living; asked of the device, which judges by itself.

    Attributes:
        shadow: how it is compared before its trial; None for not at all.
        errors: largest share of requests answered with a fault of the server's.
        latency: most times what the version before it took.
        agreement: smallest share of answers that are the same as the previous version's.
        compared: answers that must have been compared before ``agreement`` counts.

    """

    errors: Annotated[float, Meta(ge=0, le=1)] | None = None
    latency: Annotated[float, Meta(gt=0)] | None = None
    agreement: Annotated[float, Meta(ge=0, le=1)] | None = None
    compared: Annotated[int, Meta(ge=1)] = 20
    shadow: Shadow | None = None


class DesiredModel(Struct, frozen=True, omit_defaults=True):
    """``desired.models.<key>``: which version a device should run. A small pointer, never a URL.

    Attributes:
        version: the registry's number, for people.
        digest: of the manifest: what is meant.
        retry: a device that gave a version up tries it again when an operator changes this number.
        trial: what it must show before it is confirmed; None for nothing but to live.
        hold: have it here, tried out, and do not switch to it before this is gone.
        activate: times of day in which the device may switch to it; none for always. Going back waits for none.

    """

    version: Version
    digest: DigestText
    retry: Retry = 0
    trial: Conditions | None = None
    hold: bool = False
    activate: Windows = ()


class DesiredSettings(Struct, frozen=True, omit_defaults=True):
    """``desired.settings``: what the device heeds beside its own settings; of both the stricter holds.

    Attributes:
        link: name of the link that the caps are of; for people.
        rate: bytes a second that downloads may use; None for no limit.
        windows: times of day in which bytes may be moved; none for always.
        day, month: bytes that may be moved in a day and in a month, by UTC; None for any.

    """

    link: Short = ""
    rate: Annotated[int, Meta(ge=1, le=1 << 53)] | None = None
    windows: Windows = ()
    day: Annotated[int, Meta(ge=1, le=1 << 53)] | None = None
    month: Annotated[int, Meta(ge=1, le=1 << 53)] | None = None


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
        cause: what it waits for, where that is known: ``window``, ``cap``, ``switch`` or ``activation``.

    """

    digest: DigestText
    state: State
    version: Annotated[int, Meta(ge=0, le=1 << 31)] = 0
    done: Count = 0
    size: Count = 0
    fault: Fault | None = None
    cause: Short = ""


class Running(Struct, frozen=True, omit_defaults=True):
    """A version on a device: number, manifest digest and the variant chosen there."""

    version: Version
    digest: DigestText
    variant: Short = ""


class Trial(Struct, frozen=True, omit_defaults=True):
    """What a version has shown so far, in its shadow and in its trial.

    Attributes:
        digest: of the version's manifest.
        requests: answered; ``errors``: of these with a fault of the server's.
        gap: seconds without an answer at the switch.
        latency: 95th percentile of seconds a request took; ``latency_before`` that of the version before it.
        memory: bytes its worker holds; ``memory_before`` those of the version before it.
        compared: answers compared with those of the version before it; ``agreed``: the shares by which they are the same, in sum.
        sketch: what both found in them.
        unseen: it has answered no client yet: what is said is of its shadow alone.

    """

    digest: DigestText
    requests: Count = 0
    errors: Count = 0
    gap: Seconds = 0.0
    latency: Seconds = 0.0
    latency_before: Seconds = 0.0
    memory: Count = 0
    memory_before: Count = 0
    compared: Count = 0
    agreed: Count = 0
    sketch: Sketch | None = None
    unseen: bool = False


class ReportedModel(Struct, frozen=True, omit_defaults=True):
    """``reported.models.<key>``: what is true on the device.

    Attributes:
        current: the version that answers; None if none does.
        previous: kept beside it for going back.
        target: work in progress or failed; None when current is what is desired.
        fetched: bytes moved over the network for this model since enrolment.
        trial: of the newest version that was tried.

    """

    current: Running | None = None
    previous: Running | None = None
    target: Target | None = None
    fetched: Count = 0
    trial: Trial | None = None


def desired_models(desired: dict[str, Any]) -> dict[str, DesiredModel]:
    """The models that a desired section names, by model name.

    Raises:
        Invalid: ``models`` is there but malformed; the message has the path.

    """
    found = documents.convert(desired.get("models", {}), dict[str, DesiredModel], what="desired.models")
    if len(found) > 1000:
        raise Invalid("desired.models: more than 1000 models")
    for one in found.values():
        for text in one.activate:
            windows.parse(text)
    return {twin.name_of(key): value for key, value in found.items()}


def desired_settings(desired: dict[str, Any]) -> DesiredSettings:
    """The settings that a desired section has for the device.

    Raises:
        Invalid: ``settings`` is there but malformed.

    """
    found = documents.convert(desired.get("settings", {}), DesiredSettings, what="desired.settings")
    for text in found.windows:
        windows.parse(text)
    return found


def reported_models(reported: dict[str, Any]) -> dict[str, ReportedModel]:
    """The models that a reported section speaks of, by model name.

    Raises:
        Invalid: ``models`` is there but malformed.

    """
    found = documents.convert(reported.get("models", {}), dict[str, ReportedModel], what="reported.models")
    return {twin.name_of(key): value for key, value in found.items()}
