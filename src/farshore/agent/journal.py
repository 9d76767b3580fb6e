"""What was intended, tried and learnt, in one small file that is replaced atomically.

A journal that cannot be read is begun anew: what matters most (which versions are whole, which is current) is on disk
in its own right, and desired comes again from the hub.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from farshore.agent import limits, state
from farshore.agent.state import Attempt, Note, Notes
from farshore.core import documents, manifest, wire
from farshore.core.digest import Digest
from farshore.core.errors import FarshoreError, Invalid
from farshore.core.wire import Fault
from farshore.store import files

log = logging.getLogger(__name__)

MOST_TRIES = 3
"""Applications of one patch that were begun and never ended, after which another way is taken."""

TRIES_KEPT = 8


class Journal:
    """The notes of one device; every change is on disk before the call returns.

    Args:
        path: the file; its folder exists.

    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.notes = _read(path)

    def note(self, model: str) -> Note:
        return self.notes.models.get(model, Note())

    def write(self, model: str, **changes: Any) -> None:
        """Change members of a model's note.

        Raises:
            Unavailable: the disk does not take it; nothing is changed then.

        """
        changed = replace(self.note(model), **changes)
        if changed != self.notes.models.get(model):
            self._keep(replace(self.notes, models={**self.notes.models, model: changed}))

    def forget(self, model: str) -> None:
        """Remember nothing of a model any more."""
        self._keep(
            replace(self.notes, models={name: note for name, note in self.notes.models.items() if name != model})
        )

    def begin(self, model: str, step: str, now: float, *, done: int = 0, strike: bool) -> None:
        """Note that ``step`` is about to be tried.

        Args:
            model: whose.
            step: its kind.
            now: seconds since 1970.
            done: bytes of the file that are here; more than at the last attempt means progress, and counting starts anew.
            strike: count it against the version already now: then being cut off counts as well.

        """
        last = self.note(model).attempt
        if last is None or last.step != step or done > last.done:
            last = Attempt(step, now, count=0)
        attempt = Attempt(step, now, last.count + 1, last.strikes + strike, done)
        self.write(model, attempt=attempt)

    def end(self, model: str, fault: Fault, *, strike: bool) -> None:
        """Note how the attempt failed.

        Args:
            model: whose.
            fault: why.
            strike: count it against the version.

        """
        attempt = self.note(model).attempt
        if attempt is not None:
            self.write(model, attempt=replace(attempt, fault=fault, strikes=attempt.strikes + strike))

    def accept(self, desired: dict[str, Any], seen: int) -> None:
        """Keep a new desired section and forget what was remembered of versions no longer meant.

        Raises:
            Invalid: it is malformed; the last good one stays, and this one is not asked for again.

        """
        try:
            models = _models(desired)
            wire.desired_settings(desired)
        except Invalid:
            self._keep(replace(self.notes, seen=seen))
            raise
        self._keep(state.aim(replace(self.notes, desired=desired, seen=seen), models))

    def spend(self, count: int, now: float) -> None:
        """Add to what was moved over the link; less than none gives back what was set aside.

        Raises:
            Unavailable: the disk does not take it; nothing is changed then.

        """
        self._keep(replace(self.notes, spent=limits.add(self.notes.spent, count, now)))

    def settings(self) -> wire.DesiredSettings:
        """What the hub asks this device to heed."""
        return wire.desired_settings(self.notes.desired or {})

    def desired(self) -> dict[str, wire.DesiredModel] | None:
        """What the hub last asked for, by model name; None if it was never heard."""
        return None if self.notes.desired is None else wire.desired_models(self.notes.desired)

    def started(self, boot: str) -> bool:
        """Note that the agent starts; whether the machine has, too. Shadows and trials count the machine's starts.

        Args:
            boot: names this start of the machine.

        """
        if boot and boot == self.notes.boot:
            return False
        models = {
            name: replace(note, trial=state.booted(note.trial), shadow=state.booted(note.shadow))
            for name, note in self.notes.models.items()
        }
        self._keep(replace(self.notes, boot=boot, models=models))
        return True

    def saw_runtimes(self, runtimes: tuple[str, ...]) -> None:
        """Remember the inference server's runtimes, so that downloads can go on while it is away."""
        if runtimes != self.notes.runtimes:
            self._keep(replace(self.notes, runtimes=runtimes))

    def _keep(self, notes: Notes) -> None:
        if notes != self.notes:
            files.write_atomic(self._path, documents.canonical(notes), mode=0o600)
            self.notes = notes


class Tries:
    """How often the application of each patch was begun for a model and never ended, as when the machine's memory is too small
    and the agent is killed: such a patch is no way here, however right it is.

    Args:
        journal: where it is noted.
        model: whose files are patched.

    """

    def __init__(self, journal: Journal, model: str) -> None:
        self._journal, self._model = journal, model

    def spent(self, patch: Digest) -> bool:
        """Whether it was begun often enough."""
        return self._noted().get(patch, 0) >= MOST_TRIES

    def begin(self, patch: Digest) -> None:
        """Note that it is about to be applied. Only the last few patches are remembered."""
        others = {digest: count for digest, count in self._noted().items() if digest != patch}
        last = dict(list(others.items())[-(TRIES_KEPT - 1) :])
        self._journal.write(self._model, applying={**last, patch: self._noted().get(patch, 0) + 1})

    def end(self, patch: Digest, *, cut: bool) -> None:
        """Note that it ended, well or badly; or that it was cut off by an order to stop, which proves nothing."""
        noted = dict(self._noted())
        count = noted.pop(patch, 0)
        if cut and count > 1:
            noted[patch] = count - 1
        self._journal.write(self._model, applying=noted)

    def _noted(self) -> dict[str, int]:
        return self._journal.note(self._model).applying


def _models(desired: dict[str, Any]) -> dict[str, wire.DesiredModel]:
    """The models of a desired section, their names fit to be names of folders."""
    models = wire.desired_models(desired)
    for name in models:
        manifest.check_name(name)
    return models


def _read(path: Path) -> Notes:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Notes()
    except OSError as error:
        log.warning("journal %s cannot be read (%s): starting with an empty one", path, error.strerror)
        return Notes()
    try:
        notes = documents.decode(data, Notes, what="journal", limit=16 << 20)
        if notes.desired is not None:
            _models(notes.desired)
            wire.desired_settings(notes.desired)
        return notes
    except FarshoreError as error:
        log.warning("journal %s is damaged (%s): starting with an empty one", path, error.message)
        return Notes()
