"""A loaded model that can be run, with as many contexts of it in memory as its traffic uses.

A context is what a runtime makes of the model for a number of threads. A request that is alone is answered soonest on all cores;
several at once are answered soonest on one core each (``docs/serving.md`` has the measurements). Each context has packed weights and
working memory of its own, though, and one camera that waits for its answers never needs the second kind. So contexts are made when
they are first missed, by a thread beside the requests, which use what is there meanwhile; and those that go unused are let go.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

from numpy.typing import NDArray

from farshore.core.errors import Unavailable
from farshore.core.manifest import Runtime
from farshore.serve import memory

log = logging.getLogger(__name__)

KEEP = 10.0
"""Seconds that a context is kept without use, and never the last one."""

SETTLED = 4
"""Requests in a row that were alone before a context for lone ones is made, or used beside others: a gap in a crowd is not solitude,
and is not to keep in memory what only solitude needs."""

_TICK = 1.0
_IDLE = 2.0
"""Seconds without a request after which freed memory goes back to the system."""

Tensors = Mapping[str, NDArray[Any]]


class Context(Protocol):
    """What a runtime made of a model."""

    def run(self, feeds: Tensors) -> dict[str, NDArray[Any]]:
        """As :meth:`Engine.run`."""
        ...


class Model(Protocol):
    """A model file that contexts can be made of.

    Attributes:
        shared: whether several threads may run one context at once.
        steady: whether answers are the same for any number of threads.

    """

    @property
    def shared(self) -> bool: ...

    @property
    def steady(self) -> bool: ...

    def context(self, threads: int) -> Context:
        """Make a context that computes with that many threads.

        Raises:
            Invalid: the runtime refuses the model.
            MemoryError: not enough memory.

        """
        ...

    def optimised(self) -> bytes:
        """The model as the runtime rewrites it for this machine when it loads it; empty if it cannot be had."""
        ...


@dataclass(slots=True, eq=False)
class _Held:
    context: Context
    threads: int
    users: int = 0
    used: float = 0.0


class Engine:
    """A model in memory. Threads may run it together.

    Args:
        model: makes contexts.
        lone: cores that a lone request may use.
        width: requests that will run at once.
        crowded: several are expected at once from the start.
        keep: seconds that an unused context is kept.

    Raises:
        Invalid: the runtime refuses the model.
        MemoryError: not enough memory.

    """

    def __init__(self, model: Model, lone: int, width: int, *, crowded: bool = False, keep: float = KEEP) -> None:
        self.model = model
        self._keep = keep
        self._lone = lone if model.steady else 1
        self._most = {self._lone: 1, 1: 1 if model.shared else width}
        self._changed = threading.Condition()
        self._wish = self._making = 0  # threads of the context to be made next, and of the one that is being made
        self._tending = False
        self._alone = 0  # requests in a row
        first = 1 if crowded else self._lone
        self._held = [_Held(model.context(first), first) for _ in range(self._most[first] if crowded else 1)]

    @property
    def contexts(self) -> tuple[int, ...]:
        """Threads of every context that is held now."""
        with self._changed:
            return tuple(sorted(held.threads for held in self._held))

    def run(self, feeds: Tensors, *, alone: bool) -> dict[str, NDArray[Any]]:
        """Run the model once.

        Args:
            feeds: every input by name, of the input's dtype and a shape that fits.
            alone: no other request runs now: take all cores.

        Returns:
            Every output by name, as the model stores it (integers are not dequantised). The caller owns the arrays.

        Raises:
            Unavailable: the runtime failed.

        """
        held = self._take(alone)
        try:
            return held.context.run(feeds)
        finally:
            with self._changed:
                held.users -= 1
                held.used = monotonic()
                self._changed.notify_all()

    def warm(self, feeds: Tensors) -> dict[str, NDArray[Any]]:
        """Run every context once, so that no request pays for what is made on first use; before threads call :meth:`run`."""
        return [held.context.run(feeds) for held in self._held][-1]

    def _take(self, alone: bool) -> _Held:
        """A context that is free: one of the kind that suits the traffic, else any."""
        with self._changed:
            self._alone = self._alone + 1 if alone else 0
            settled = self._alone >= SETTLED
            wanted = self._lone if settled else 1
            while True:
                free = [held for held in self._held if self.model.shared or not held.users]
                best = max(free, key=lambda held: (held.threads == wanted, held.used), default=None)
                if (best is None or best.threads != wanted) and (settled or not alone):
                    self._ask_for(wanted)
                if not self._tending:
                    self._tending = True
                    threading.Thread(target=self._tend, name="contexts", daemon=True).start()
                if best is not None:
                    best.users += 1
                    return best
                self._changed.wait()

    def _ask_for(self, threads: int) -> None:
        there = sum(held.threads == threads for held in self._held) + (self._making == threads)
        if there < self._most[threads] and not self._wish:
            self._wish = threads
            self._changed.notify_all()

    def _tend(self) -> None:
        """Make what is missed, let go what is not used, give memory back; ends when there is nothing more to do."""
        trimmed = False
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wish, min(_TICK, self._keep))
                threads = self._making = self._wish
                self._wish = 0
                now = monotonic()
                busy = any(held.users or now - held.used < _IDLE for held in self._held)
                fewer = self._let_go(now)
                self._tending = bool(threads) or busy or fewer or len(self._held) > 1 or not trimmed
                if not self._tending:
                    return
            if threads:
                self._make(threads)
            if threads or fewer or not (busy or trimmed):
                memory.give_back()
            trimmed = not busy

    def _make(self, threads: int) -> None:
        try:
            made = _Held(self.model.context(threads), threads, used=monotonic())
        except Exception as error:  # noqa: BLE001 - what is there goes on answering, whatever the runtime said
            log.warning("no context of %d threads: %s", threads, error)
            with self._changed:
                self._making = 0
                self._most[threads] = sum(held.threads == threads for held in self._held)
            return
        with self._changed:
            self._making = 0
            self._held.append(made)
            self._changed.notify_all()

    def _let_go(self, now: float) -> bool:
        latest = max(self._held, key=lambda held: (held.users, held.used))
        kept = [held for held in self._held if held is latest or held.users or now - held.used < self._keep]
        fewer = len(kept) < len(self._held)
        self._held = kept
        return fewer


def load(
    runtime: Runtime, path: Path, *, lone: int, width: int, crowded: bool = False, optimised: Path | None = None
) -> Engine:
    """Load a model file.

    Args:
        runtime: which one.
        path: the model file; external data lies beside it.
        lone: cores that a lone request may use.
        width: requests that will run at once.
        crowded: several are expected at once from the start.
        optimised: what :meth:`Model.optimised` gave on this machine, where that was kept.

    Raises:
        Invalid: the runtime refuses the model.
        Unavailable: the runtime is not installed here, or memory ran out.

    """
    try:
        return Engine(_model(runtime, path, optimised), lone, width, crowded=crowded)
    except ImportError as error:
        extra = "onnx" if runtime == "onnxruntime" else "litert"
        raise Unavailable(f"{runtime} is not installed here: pip install 'farshore[{extra}]' ({error})") from None
    except MemoryError:
        raise Unavailable(f"{path.name}: not enough memory to load it") from None


def _model(runtime: Runtime, path: Path, optimised: Path | None) -> Model:
    """A worker imports one runtime, not all."""
    if runtime == "onnxruntime":
        from farshore.serve import onnx  # noqa: PLC0415

        return onnx.OnnxModel(path, optimised)
    from farshore.serve import litert  # noqa: PLC0415

    return litert.LiteRtModel(path)
