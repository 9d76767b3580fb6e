"""What the operator API takes and gives, beside pushes (:class:`farshore.hub.ingest.Push`) and twins."""

from __future__ import annotations

from typing import Annotated, Any

import segno
from msgspec import Meta, Raw, Struct

from farshore.core.manifest import Content, Name, Short
from farshore.core.wire import KeyText, Windows
from farshore.hub import moments
from farshore.hub.enrolment import MAX_SECONDS
from farshore.hub.ingest import Text, Value
from farshore.hub.records import access, changes, configurations, deployments, devices, models, patches

Key = Annotated[str, Meta(min_length=1, max_length=128)]
TagChange = Annotated[dict[Key, Value | None], Meta(max_length=64)]
Seconds = Annotated[int, Meta(ge=1, le=MAX_SECONDS)]


class Version(Struct, frozen=True, omit_defaults=True):
    """A version as operators see it; ``existing`` only in the answer to a push of content that was there already; ``devices`` counts
    those that hold it, by role, for who may see all devices.
    """

    model: str
    version: int
    digest: str
    content: str
    size: int
    created: str
    archived: bool = False
    existing: bool = False
    description: str = ""
    tags: dict[str, str] = {}
    aliases: tuple[str, ...] = ()
    lineage: dict[str, Any] = {}
    devices: dict[str, int] = {}


class Draft(Struct, frozen=True):
    """A version that its publisher has yet to sign: ``role`` is what to sign, ``manifest`` what that stands for."""

    model: str
    version: int
    digest: str
    manifest: Raw
    role: Raw


class Recognised(Struct, frozen=True):
    """What a push would make of files: the ``content`` of the version, and in ``notes`` why they were read so."""

    content: Content
    notes: list[str]


class SignedRole(Struct, frozen=True, forbid_unknown_fields=True):
    """Attributes: ``role`` of a draft, with the publisher's signatures."""

    role: Raw


class Trust(Struct, frozen=True):
    """All signed metadata; ``online`` are the hub's own public keys by role, the next ones while they are being changed."""

    development: bool
    online: dict[str, str]
    roots: list[Raw]
    documents: dict[str, Raw]


class TrustChange(Struct, frozen=True, forbid_unknown_fields=True):
    """Documents signed offline, by role: the next root, targets, publishers' roles; taken all or none."""

    documents: Annotated[dict[Annotated[str, Meta(max_length=128)], Raw], Meta(max_length=100_000)] = {}


class FullVersion(Version, frozen=True, omit_defaults=True):
    """A version with all that is known of it; ``manifest`` is what devices believe."""

    properties: dict[str, Any] = {}
    notes: list[str] = []
    manifest: Content | None = None


class Versions(Struct, frozen=True, omit_defaults=True):
    """A page, newest first; ``next`` is the ``before`` of the next page."""

    items: list[Version]
    next: int | None = None


class VersionChange(Struct, frozen=True, forbid_unknown_fields=True):
    """What may change about a version; a tag of null is deleted."""

    description: Text | None = None
    tags: TagChange = {}
    archived: bool | None = None


class Model(Struct, frozen=True, omit_defaults=True):
    """A model; ``newest`` is the highest number not archived."""

    name: str
    created: str
    title: str = ""
    description: str = ""
    tags: dict[str, str] = {}
    aliases: dict[str, int] = {}
    versions: int | None = None
    newest: int | None = None


class Models(Struct, frozen=True, omit_defaults=True):
    """A page, by name; ``next`` is the ``after`` of the next page."""

    items: list[Model]
    next: str | None = None


class ModelChange(Struct, frozen=True, forbid_unknown_fields=True):
    """What may change about a model; a tag of null is deleted."""

    title: Annotated[str, Meta(max_length=200)] | None = None
    description: Text | None = None
    tags: TagChange = {}


class PatchBase(Struct, frozen=True, omit_defaults=True):
    """A file that a patch needs, and the newest version that it stands in."""

    digest: str
    model: str = ""
    version: int | None = None
    path: str = ""


class Patch(Struct, frozen=True):
    """A patch to a file of a version: ``size`` bytes instead of ``whole`` for a device that holds the bases."""

    path: str
    target: str
    whole: int
    digest: str
    size: int
    level: str
    created: str
    bases: list[PatchBase]


class AliasTarget(Struct, frozen=True, forbid_unknown_fields=True):
    """Attributes: ``version`` a number, or another alias of the same model."""

    version: int | str


class Difference(Struct, frozen=True):
    """What differs between two versions: metadata, and per pair of variants the model files' own words and tensors."""

    before: int
    after: int
    changes: list[dict[str, str]]
    variants: list[dict[str, Any]]


class NewEnrolment(Struct, frozen=True, forbid_unknown_fields=True):
    """A one-time token to make; ``device`` fixes the id, ``tags`` are the new twin's, ``seconds`` its life; with ``approval`` the
    device has to wait for an operator; with ``qr`` the answer has the command as a QR code, too.
    """

    device: Name | None = None
    tags: dict[str, Any] = {}
    seconds: Seconds | None = None
    approval: bool = False
    qr: bool = False


class Enrolment(Struct, frozen=True, omit_defaults=True):
    """A one-time token; ``token`` itself is told only when it is made. ``hub`` is the address to give the device, ``command`` what to
    run there, ``qr`` the same as the rows of a QR code, its quiet zone left away: ``1`` is dark.
    """

    id: str
    created: str
    expires: str
    device: str = ""
    tags: dict[str, Any] = {}
    used: str | None = None
    used_by: str = ""
    approval: bool = False
    token: str = ""
    hub: str = ""
    command: str = ""
    qr: tuple[str, ...] = ()


class NewDevice(Struct, frozen=True, forbid_unknown_fields=True):
    """A device to come that enrols without a token: its public ``key`` (``ed25519:…``); ``tags`` are its twin's."""

    id: Name
    key: KeyText
    tags: dict[str, Any] = {}


class Reason(Struct, frozen=True, forbid_unknown_fields=True):
    """Why a device is kept out."""

    reason: Annotated[str, Meta(max_length=200)] = ""


class Device(Struct, frozen=True, omit_defaults=True):
    """A device; ``desired`` and ``reported`` are its sections' ``models``; ``state`` is ``accepted``, ``pending``, ``quarantined`` or
    ``revoked``, the latter two with a ``reason``; ``modules`` are versions that its modules hold in the classic contract, by role.
    """

    id: str
    created: str
    state: str
    reason: str = ""
    key: str = ""
    seen: str | None = None
    tags: dict[str, Any] = {}
    desired: dict[str, Any] = {}
    reported: dict[str, Any] = {}
    modules: dict[str, dict[str, str]] = {}


class Devices(Struct, frozen=True, omit_defaults=True):
    """A page, by id; ``next`` is the ``after`` of the next page."""

    items: list[Device]
    next: str | None = None


class NewDeployment(Struct, frozen=True, forbid_unknown_fields=True):
    """Devices that ``selector`` matches should run ``model`` (``name@3``, ``name@alias``, ``name``), resolved now; ``activate`` are
    times of day in which they may switch to it, left as they are if left away. With ``classic`` that module of theirs is told, in the
    contract of Microsoft's guide.
    """

    selector: Annotated[str, Meta(min_length=1, max_length=4096)]
    model: Short
    priority: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    activate: Windows | None = None
    classic: Annotated[str, Meta(max_length=128)] = ""


class Deployment(Struct, frozen=True, omit_defaults=True):
    """A deployment; ``ref`` as it was asked for, ``model``, ``version`` and ``digest`` what that meant when it was resolved;
    ``devices`` counts those that hold the version, by role.
    """

    id: str
    selector: str
    ref: str
    model: str
    version: int
    digest: str
    priority: int
    created: str
    changed: str
    devices: dict[str, int] = {}
    activate: tuple[str, ...] = ()
    classic: str = ""
    labels: dict[str, str] = {}


class Change(Struct, frozen=True, omit_defaults=True):
    """A line of the feed; ``detail`` says more in a few words where there is more to say."""

    serial: int
    at: str
    kind: str
    subject: str
    detail: str = ""


class HubInfo(Struct, frozen=True):
    """Attributes: ``version`` of the program; ``url`` for devices; ``root`` pin of the first trust root."""

    version: str
    url: str
    root: str


def patch(place: patches.Place, row: patches.Patch, bases: dict[str, patches.Place]) -> Patch:
    """A patch that is kept, to the file at ``place``."""
    known = [(digest, bases.get(digest)) for digest in row.bases]
    return Patch(
        place.path,
        place.digest,
        place.size,
        row.digest or "",
        row.size,
        row.level,
        moments.text(row.created),
        [
            PatchBase(digest) if one is None else PatchBase(digest, one.model, one.version, one.path)
            for digest, one in known
        ],
    )


def version(
    row: models.Version, aliases: dict[str, int], held: dict[str, int] | None = None, *, existing: bool = False
) -> Version:
    return Version(**_common(row, aliases), devices=held or {}, existing=existing)


def full_version(
    row: models.Version, aliases: dict[str, int], content: Content, held: dict[str, int] | None = None
) -> FullVersion:
    said = _common(row, aliases)
    return FullVersion(**said, devices=held or {}, properties=row.properties, notes=row.notes, manifest=content)


def _common(row: models.Version, aliases: dict[str, int]) -> dict[str, Any]:
    return {
        "model": row.model,
        "version": row.number,
        "digest": row.digest,
        "content": row.content,
        "size": row.size,
        "created": moments.text(row.created),
        "archived": row.archived,
        "description": row.description,
        "tags": row.tags,
        "lineage": row.lineage,
        "aliases": tuple(alias for alias, number in aliases.items() if number == row.number),
    }


def model(row: models.Model, aliases: dict[str, int], many: int | None = None, newest: int | None = None) -> Model:
    return Model(
        row.name, moments.text(row.created), row.title, row.description, row.tags, aliases, many, newest or None
    )


def enrolment(row: access.Enrolment, token: str = "", hub: str = "", *, qr: bool = False) -> Enrolment:
    command = f"farshore agent --root /var/lib/farshore --hub {hub} --enrol {token}" if token else ""
    command += f" --device {row.device}" if command and row.device else ""
    return Enrolment(
        id=row.id,
        created=moments.text(row.created),
        expires=moments.text(row.expires),
        device=row.device,
        tags=row.tags,
        used=moments.text_or_none(row.used),
        used_by=row.used_by,
        approval=row.approval,
        token=token,
        hub=hub,
        command=command,
        qr=tuple("".join("1" if dark else "0" for dark in line) for line in segno.make_qr(command).matrix)
        if qr
        else (),
    )


def device(row: devices.Device, twin: devices.Twin, modules: list[devices.ModuleHolds] | None = None) -> Device:
    return Device(
        id=row.id,
        created=moments.text(row.created),
        state=row.state,
        reason=row.reason,
        key=row.key or "",
        seen=moments.text_or_none(row.seen),
        tags=twin.tags,
        desired=twin.desired.values.get("models", {}),
        reported=twin.reported.values.get("models", {}),
        modules=_by_module(modules or []),
    )


def _by_module(held: list[devices.ModuleHolds]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for one in held:
        found.setdefault(one.module, {})[one.role] = f"{one.model}@{one.version}"
    return found


def deployment(
    row: deployments.Deployment, counts: dict[str, int] | None = None, manner: configurations.Manner | None = None
) -> Deployment:
    return Deployment(
        id=row.id,
        selector=row.selector,
        ref=row.ref,
        model=row.model,
        version=row.version,
        digest=row.digest,
        priority=row.priority,
        created=moments.text(row.created),
        changed=moments.text(row.changed),
        devices=counts or {},
        activate=row.activate,
        classic=manner.classic if manner else "",
        labels=manner.labels if manner else {},
    )


def change(row: changes.Change) -> Change:
    return Change(row.serial, moments.text(row.at), row.kind, row.subject, row.detail)
