"""What a version will cost on one device: bytes, time and money, told before anything starts. Pure.

The device chooses among the same routes by the same rule, so that the forecast of a transfer without cuts is exact, as soon as
the patches are built.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import msgspec
from msgspec import Struct

from farshore.core.digest import Digest
from farshore.core.manifest import File, Manifest, choose_variant
from farshore.core.wire import ReportedModel
from farshore.hub.records.ledger import Link

MILLION = 1_000_000
PICTURE = "picture"


class Facts(Struct, frozen=True):
    """What a device has told of itself.

    Attributes:
        runtimes: that can run a model there.
        memory: bytes of RAM.
        machine: its architecture.
        models: what it runs and keeps, by model name.
        room: bytes that may still be written there; None if it has not said.

    """

    runtimes: tuple[str, ...]
    memory: int
    machine: str
    models: Mapping[str, ReportedModel]
    room: int | None = None


class Forecast(Struct, frozen=True, omit_defaults=True):
    """What is to be expected on a device.

    Attributes:
        device: its id.
        route: ``patch``, ``whole``, ``both``, or ``none`` when nothing has to be moved.
        bytes: to be moved.
        whole: bytes without patches.
        seconds: at its link's rate; 0 if that is not known.
        money: at its link's price.
        currency: of that.
        link: the device's.
        trouble: why it will not get the version; empty if it will.
        note: what makes it take longer, as the caps of its link; empty if nothing does.

    """

    device: str
    route: str
    bytes: int
    whole: int
    seconds: float = 0.0
    money: float = 0.0
    currency: str = ""
    link: str = ""
    trouble: str = ""
    note: str = ""


def held(facts: Facts, manifest_of: Callable[[str], Manifest | None]) -> frozenset[Digest]:
    """Files that a device has on disk: those of the versions it runs and keeps for going back.

    Args:
        facts: of the device.
        manifest_of: the manifest with a digest; None if it is gone.

    """
    found: set[Digest] = set()
    for said in facts.models.values():
        for running in (said.current, said.previous):
            manifest = None if running is None else manifest_of(running.digest)
            if running is None or manifest is None:
                continue
            for variant in manifest.content.variants:
                if variant.name == running.variant:
                    found |= manifest.needed(variant).keys()
    return frozenset(found)


def missing(facts: Facts, manifest: Manifest, have: frozenset[Digest]) -> dict[Digest, File] | None:
    """Files that a device has to fetch for a version; None if no variant fits it."""
    variant = choose_variant(manifest, facts.runtimes, facts.memory, facts.machine)
    if variant is None:
        return None
    return {digest: file for digest, file in manifest.needed(variant).items() if digest not in have}


def freed(facts: Facts, manifest: Manifest, manifest_of: Callable[[str], Manifest | None]) -> int:
    """Bytes that a device may delete for the sake of a version: of versions that it only keeps for going back.

    Args:
        facts: of the device.
        manifest: of the version.
        manifest_of: as for :func:`held`.

    """
    kept = held(_only(facts, "current"), manifest_of)
    spare = held(_only(facts, "previous"), manifest_of) - kept - manifest.files().keys()
    sizes = {
        digest: file.size
        for said in facts.models.values()
        if said.previous is not None and (found := manifest_of(said.previous.digest)) is not None
        for digest, file in found.files().items()
    }
    return sum(sizes[digest] for digest in spare)


def _only(facts: Facts, role: str) -> Facts:
    said = {name: ReportedModel(**{role: getattr(one, role)}) for name, one in facts.models.items()}
    return msgspec.structs.replace(facts, models=said)


def forecast(
    device: str, facts: Facts, files: Mapping[Digest, File] | None, patch: Callable[[Digest], int | None], link: Link,
    *, freed: int = 0, used: int = 0,
) -> Forecast:  # fmt: skip
    """Add it up.

    Args:
        device: its id.
        facts: of the device.
        files: from :func:`missing`.
        patch: bytes of the smallest patch to a file from what the device holds; None if there is none.
        link: the device's.
        freed: from :func:`freed`.
        used: bytes that it moved over its link this month.

    """
    if files is None:
        has = f"{', '.join(facts.runtimes) or 'no runtime'}, {facts.memory} bytes of memory, {facts.machine or 'unknown machine'}"
        return Forecast(device, "none", 0, 0, link=link.name, trouble=f"no variant fits it: it has {has}")
    total, kinds = 0, set()
    for digest, file in files.items():
        size = patch(digest)
        better = size is not None and size < file.size and (facts.room is None or size + file.size <= facts.room)
        total += size if better and size is not None else file.size
        kinds |= {"patch" if better else "whole"} if file.role != PICTURE else set()
    route = "none" if not files else "both" if len(kinds) == 2 else next(iter(kinds), "whole")
    whole = sum(file.size for file in files.values())
    seconds = total / link.rate if link.rate else 0.0
    money = total / MILLION * link.price
    found = Forecast(
        device, route, total, whole, seconds, money, link.currency, link.name, note=_note(total, link, used)
    )
    if facts.room is not None and whole > facts.room + freed:
        text = f"too little disk: {whole / MILLION:.3g} MB are to be written, and there is room for {(facts.room + freed) / MILLION:.3g}"
        return msgspec.structs.replace(found, trouble=text)
    return found


def _note(total: int, link: Link, used: int) -> str:
    """What the link's caps do to so many bytes, the narrower one first."""
    left = max(link.month - used, 0)
    if link.month and total > left:
        return f"{left / MILLION:.3g} of {link.month / MILLION:g} MB a month are left on {link.name}"
    if link.day and total > link.day:
        return f"takes {math.ceil(total / link.day)} days: {link.day / MILLION:g} MB a day on {link.name}"
    return ""
