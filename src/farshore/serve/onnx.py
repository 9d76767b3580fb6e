"""ONNX models by onnxruntime."""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import onnxruntime
from numpy.typing import NDArray

from farshore.core.errors import Invalid, Unavailable
from farshore.formats import onnx_inputs


class _Context:
    """A session; threads may run it together."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._outputs = [output.name for output in session.get_outputs()]

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """As :meth:`farshore.serve.engine.Engine.run`."""
        try:
            found = self._session.run(self._outputs, dict(feeds))
        except Exception as error:  # noqa: BLE001 - onnxruntime's own exceptions have no common base
            raise Unavailable(f"onnxruntime failed: {_line(error)}") from None
        return dict(zip(self._outputs, found, strict=True))


class OnnxModel:
    """A model file; a context of it is a session, which threads may run together.

    Args:
        path: the model file; loaded by path, so that external data is found beside it and nowhere else.
        optimised: what :meth:`optimised` gave, where that was kept.

    """

    shared = True
    steady = True

    def __init__(self, path: Path, optimised: Path | None = None) -> None:
        self._path = path
        self._optimised = optimised
        onnxruntime.set_default_logger_severity(3)

    def context(self, threads: int) -> _Context:
        """As :meth:`farshore.serve.engine.Model.context`."""
        if self._optimised is not None:
            try:
                return _Context(_session(str(self._optimised), _options(threads, optimise=False)))
            except Exception:  # noqa: BLE001 - as above; the model itself is still there
                self._optimised = None
        return _Context(self._load(_options(threads)))

    def optimised(self) -> bytes:
        """As :meth:`farshore.serve.engine.Model.optimised`. A process that may write no files still has pipes."""
        reader, writer = os.pipe()
        pieces: list[bytes] = []
        with os.fdopen(reader, "rb") as told:
            collecting = threading.Thread(target=lambda: pieces.append(told.read()))
            collecting.start()
            options = _options(1)
            options.optimized_model_filepath = f"/proc/self/fd/{writer}"
            try:
                self._load(options)
            except Invalid:
                return b""  # weights in files beside it cannot go along
            finally:
                os.close(writer)
                collecting.join()
        return b"".join(pieces)

    def _load(self, options: Any) -> Any:
        model = without_initializers(self._path) or str(self._path)
        try:
            return _session(model, options)
        except Exception as error:  # noqa: BLE001 - as above
            if "bad_alloc" in str(error) or "Failed to allocate memory" in str(error):
                raise MemoryError from None
            raise Invalid(f"onnxruntime refuses {self._path.name}: {_line(error)}") from None


@cache
def _share_arena() -> None:
    """One arena for all sessions of this process: by itself each keeps room for a whole run, 10–20 MB on small detectors.

    It grows by what is asked for; by itself it would double each time.
    """
    kind = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    memory = onnxruntime.OrtMemoryInfo("Cpu", kind, 0, onnxruntime.OrtMemType.DEFAULT)
    as_requested, default = 1, -1
    growth = {
        "max_mem": 0,
        "arena_extend_strategy": as_requested,
        "initial_chunk_size_bytes": default,
        "max_dead_bytes_per_chunk": default,
        "initial_growth_chunk_size_bytes": default,
    }
    onnxruntime.create_and_register_allocator(memory, onnxruntime.OrtArenaCfg(growth))


def _session(model: str | bytes, options: Any) -> Any:
    _share_arena()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _options(threads: int, *, optimise: bool = True) -> Any:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.use_env_allocators", "1")
    # Weights are not for the arena, which never gives anything back.
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    options.enable_mem_pattern = False  # it buys no time here, and keeps memory
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimise else level.ORT_DISABLE_ALL
    options.log_severity_level = 3
    # Threads that wait by spinning take the core that the next request's decoding needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def without_initializers(path: Path) -> bytes | None:
    """The file's bytes without inputs that are initializers; None if it can be loaded as it is.

    Old exporters list every weight as an input, too; onnxruntime then treats weights as variables, which takes up to three times
    as long (``docs/serving.md``).
    """
    if not path.stat().st_size:
        return None  # nothing can be mapped
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as view,
    ):
        return onnx_inputs.without_initializers(view)


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
