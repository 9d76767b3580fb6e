"""What the protocol's doors ask of the models: who is here, how they fare, run this, let that go. No wire format here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

import farshore
from farshore.core.errors import Denied, Invalid, NotFound, Unavailable
from farshore.core.manifest import Variant
from farshore.serve.frames import Infer
from farshore.serve.lane import Lane, Lease, Reply
from farshore.serve.metrics import Histogram
from farshore.serve.model import Model
from farshore.serve.oip import words
from farshore.serve.pool import Pool

SERVER = {
    "name": "farshore",
    "version": farshore.__version__,
    "extensions": ["binary_tensor_data", "model_configuration", "model_repository", "statistics"],
}
_PLATFORMS = {"onnxruntime": ("onnxruntime_onnx", "onnxruntime"), "litert": ("litert_tflite", "litert")}


class Models:
    """The protocol's view of the pool.

    Args:
        pool: the models.

    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def infer(
        self, name: str, version: str, body: Sequence[bytes], head: int | None, done: Callable[[Reply], None]
    ) -> Callable[[], None]:
        """Run a model; ``done`` is called with the answer unless the request is cancelled by what is returned.

        Args:
            name: the model's.
            version: its number; "" for whichever leads.
            body: pieces of a request as :mod:`farshore.serve.oip.words` has it.
            head: bytes of JSON before binary tensors; None if all is JSON.
            done: called once.

        Raises:
            NotFound: no such model answers, or not in that version.

        """
        model = self._pool.choose(name)
        number = _number(version)
        deadline = monotonic() + self._pool.settings.wait_seconds
        lease = Lease(body, sum(map(len, body)), done, deadline, Infer(0, head), number)
        model.submit(lease)
        return lambda: model.cancel(lease)

    @property
    def ready(self) -> bool:
        """Whether every model that should answer does."""
        wanted = [model for model in self._pool.models.values() if model.wanted]
        return bool(wanted) and all(model.ready for model in wanted)

    def model_ready(self, name: str, version: str) -> bool:
        """Whether a request would be answered now.

        Raises:
            NotFound: there is no such model, or not in that version.

        """
        model = self._pool.choose(name)
        if not version:
            return model.ready
        lane = model.pinned(_number(version) or 0) or model.heir
        return lane is not None and (lane.state == "ready" or (model.asleep and lane is model.heir))

    def metadata(self, name: str, version: str) -> dict[str, Any]:
        """A model's tensors, as its manifest has them: a model that sleeps tells without waking up.

        Raises:
            NotFound: there is no such model, or not in that version.
            Unavailable: none of its versions can live.

        """
        model, variant = self._variant(name, version)
        return {
            "name": name,
            "versions": _versions(model),
            "platform": _PLATFORMS[variant.runtime][0],
            "inputs": [words.described(tensor) for tensor in variant.inputs],
            "outputs": [words.described(tensor) for tensor in variant.outputs],
        }

    def config(self, name: str, version: str) -> dict[str, Any]:
        """The same in the words of Triton's model configuration, which its load generators ask for. No batching."""
        _, variant = self._variant(name, version)
        platform, backend = _PLATFORMS[variant.runtime]

        def tensors(given: Sequence[Any]) -> list[dict[str, Any]]:
            told = map(words.described, given)
            return [{"name": t["name"], "data_type": _triton(t["datatype"]), "dims": t["shape"]} for t in told]

        return {
            "name": name,
            "platform": platform,
            "backend": backend,
            "max_batch_size": 0,
            "input": tensors(variant.inputs),
            "output": tensors(variant.outputs),
        }

    def statistics(self, name: str, version: str) -> list[dict[str, Any]]:
        """Counts and times of loaded versions.

        Args:
            name: a model's; "" for all.
            version: a version's; "" for all.

        Raises:
            NotFound: there is no such model, or not in that version.

        """
        models = [self._pool.choose(name)] if name else list(self._pool.models.values())
        number = _number(version)
        lanes = [lane for model in models for lane in model.lanes.values() if number in {None, lane.installed.version}]
        if number is not None and not lanes:
            raise NotFound(f"{name}: version {number} is not loaded here")
        return [_statistics(lane) for lane in lanes]

    def index(self, *, ready: bool = False) -> list[dict[str, str]]:
        """Every version that is loaded, and of other models the one that would be.

        Args:
            ready: only versions that answer.

        """
        told = []
        for name in sorted({*self._pool.models, *self._pool.slots.models()}):
            model = self._pool.models.get(name)
            lanes = list(model.lanes.values()) if model is not None else []
            for lane in sorted(lanes, key=lambda each: each.installed.version):
                why = lane.fault.message if lane.fault is not None and lane.state != "ready" else ""
                told.append(_entry(name, lane.installed.version, _STATES[lane.state], why))
            current = None if lanes else self._pool.slots.current(name)
            if current is not None:
                told.append(_entry(name, current.version, "UNAVAILABLE", "unloaded"))
        return [entry for entry in told if not ready or entry["state"] == "READY"]

    async def load(self, name: str) -> None:
        """Let the model's current version answer, if none of the model does.

        Raises:
            NotFound: nothing of that name is current here.
            Denied: the settings forbid it.
            FarshoreError: it cannot live.

        """
        self._allowed()
        slots = self._pool.slots
        current = slots.current(name) if name in slots.models() else None
        if current is None:
            raise NotFound(f"no version of {name[:80]!r} is current here: the agent installs and activates versions")
        model = self._pool.model(name)
        async with model.orders:
            if model.leader is None:
                lane = model.lane(current.digest)
                lane.forgive()
                model.begin(current, slots.previous(name))
                await lane.settled()
                if not model.ready:
                    raise lane.fault or Unavailable(f"{name}: its worker was ended")

    async def unload(self, name: str) -> None:
        """Let go of a model's workers: what is under way is answered, then its memory returns.

        Raises:
            NotFound: there is no such model.
            Denied: the settings forbid it.
            Unavailable: what is under way takes too long.

        """
        self._allowed()
        model = self._pool.models.get(name)
        if model is None:
            raise NotFound(f"there is no model {name[:80]!r} here")
        async with model.orders:
            for lane in model.lanes.values():
                lane.role, lane.leads = "none", False
            model.advance()
            try:
                async with asyncio.timeout(self._pool.settings.hang_seconds):
                    for lane in list(model.lanes.values()):
                        while lane.state != "absent":
                            await lane.changed()
            except TimeoutError:
                raise Unavailable(f"{name}: requests under way take long; it goes when they are answered") from None

    def _allowed(self) -> None:
        if not self._pool.settings.model_control:
            raise Denied("loading and unloading is switched off here (setting model_control)")

    def _variant(self, name: str, version: str) -> tuple[Model, Variant]:
        model = self._pool.choose(name)
        number = _number(version)
        lane = model.heir if number is None else model.pinned(number) or model.heir
        if lane is None or number not in {None, lane.installed.version}:
            raise Unavailable(f"{name}: it cannot be loaded")
        return model, self._pool.slots.variant(lane.installed)


_STATES = {"ready": "READY", "loading": "LOADING", "ending": "UNLOADING", "absent": "UNAVAILABLE"}


def _entry(name: str, version: int, state: str, reason: str) -> dict[str, str]:
    return {"name": name, "version": str(version), "state": state, "reason": reason}


def _number(version: str) -> int | None:
    if not version:
        return None
    if not (version.isascii() and version.isdigit() and len(version) < 12):
        raise Invalid(f"version {version[:40]!r} is no number: versions are called 1, 2, 3 …")
    return int(version)


def _versions(model: Model) -> list[str]:
    heir = model.heir if model.asleep else None
    ready = [lane.installed.version for lane in model.lanes.values() if lane.state == "ready" or lane is heir]
    return [str(number) for number in sorted(ready)]


def _triton(datatype: str) -> str:
    return "TYPE_" + ("STRING" if datatype == "BYTES" else datatype)


def _statistics(lane: Lane) -> dict[str, Any]:
    times = {name: _duration(histogram) for name, histogram in lane.stages.items()}
    count = times["infer"]["count"]
    spent = sum(each["ns"] for each in times.values())
    computed = {"compute_input": times["decode"], "compute_infer": times["infer"], "compute_output": times["read"]}
    return {
        "name": lane.installed.model,
        "version": str(lane.installed.version),
        "last_inference": int(1e3 * lane.last_success),
        "inference_count": count,
        "execution_count": count,
        "inference_stats": {
            "success": {"count": count, "ns": spent},
            "fail": {"count": lane.requests - count, "ns": 0},
            "queue": times["wait"],
            **computed,
        },
        "batch_stats": [{"batch_size": 1, **computed}] if count else [],
    }


def _duration(histogram: Histogram) -> dict[str, int]:
    return {"count": sum(histogram.counts), "ns": int(1e9 * histogram.total)}
