"""All that one device has in hand: its folders, its notes, its link and its inference server; and the snapshot of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from farshore.agent import limits
from farshore.agent.clock import Clock
from farshore.agent.journal import Journal
from farshore.agent.limits import Shut
from farshore.agent.link import Link
from farshore.agent.manifests import Manifests
from farshore.agent.pace import Pace
from farshore.agent.runtime import Runtime
from farshore.agent.settings import Settings
from farshore.agent.state import Device, Local, ModelState, Version
from farshore.agent.trust import Trust
from farshore.core import manifest as manifests
from farshore.core import windows
from farshore.core.control import Status
from farshore.core.digest import Digest
from farshore.core.errors import Corrupt, Unavailable
from farshore.core.manifest import Manifest, Variant
from farshore.core.wire import DesiredModel, Fault
from farshore.store import files
from farshore.store.blobs import Blobs
from farshore.store.slots import Slots

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Site:
    """See the module. ``device`` are the facts and limits that the plan weighs."""

    settings: Settings
    device: Device
    blobs: Blobs
    slots: Slots
    journal: Journal
    manifests: Manifests
    trust: Trust
    link: Link
    runtime: Runtime
    clock: Clock
    pace: Pace


def survey(site: Site, active: Digest | None, reached: tuple[Digest, float] | None = None) -> Local:
    """A snapshot of the device.

    Args:
        site: the device.
        active: the file whose transfer is open.
        reached: the file that was fetched last, and how much of its route is here.

    Raises:
        Unavailable: the disk cannot be read.

    """
    server, runtimes = site.runtime.look(), site.journal.notes.runtimes
    if server == "none":
        runtimes = site.settings.runtimes
    elif isinstance(server, Status):
        runtimes = server.runtimes
        try:
            site.journal.saw_runtimes(runtimes)
        except Unavailable as error:  # only a convenience for later: a full disk must not keep us from looking
            log.warning("%s", error.message)
    desired = site.journal.desired() or {}
    names = {*site.slots.models(), *desired, *site.journal.notes.models}
    return Local(
        device=site.device,
        models={name: _model(site, name, desired.get(name), runtimes) for name in sorted(names)},
        blobs=site.blobs.digests(),
        partials=site.blobs.partial_sizes(),
        free=files.free_bytes(site.settings.root),
        server=server,
        runtimes=runtimes,
        shut=_shut(site),
        offset=site.clock.offset(),
        active=active,
        reached=reached,
        stale=site.trust.refused or site.trust.stale() if desired else None,
    )


def _shut(site: Site) -> Shut | None:
    own, clock, journal = [windows.parse(text) for text in site.settings.windows], site.clock, site.journal
    return limits.shut(own, journal.settings(), journal.notes.spent, clock.now(), clock.offset(), site.pace.spare)


def choose(site: Site, manifest: Manifest, runtimes: tuple[str, ...]) -> Variant | None:
    """The variant of a version for this device, if one fits."""
    return manifests.choose_variant(manifest, runtimes, site.device.memory, site.device.machine)


def _model(site: Site, name: str, want: DesiredModel | None, runtimes: tuple[str, ...]) -> ModelState:
    current, previous = site.slots.current(name), site.slots.previous(name)
    installed: dict[Digest, Version] = {}
    for entry in site.slots.installed(name):
        try:
            manifest, variant = site.slots.manifest(entry), site.slots.variant(entry)
        except Corrupt:
            continue
        installed[entry.digest] = _version(manifest, entry.digest, variant)
    wanted = None
    if want is not None and want.digest not in installed:
        believed = site.manifests.find(name, Digest(want.digest), want.version)
        if believed is not None:
            wanted = _version(believed.manifest, Digest(want.digest), choose(site, believed.manifest, runtimes))
    return ModelState(
        current=None if current is None else current.digest,
        previous=None if previous is None else previous.digest,
        installed=installed,
        wanted=wanted,
        note=site.journal.note(name),
        barred=_barred(site, name, want, installed),
    )


def _barred(site: Site, name: str, want: DesiredModel | None, installed: Mapping[Digest, Version]) -> Fault | None:
    return None if want is None else site.trust.bars(name, want, here=Digest(want.digest) in installed)


def _version(manifest: Manifest, digest: Digest, variant: Variant | None) -> Version:
    needed = {} if variant is None else {file: entry.size for file, entry in manifest.needed(variant).items()}
    return Version(manifest.version, digest, None if variant is None else variant.name, needed)
