"""ONNX models by onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import onnxruntime
from numpy.typing import NDArray

from farshore.core.errors import Invalid, Unavailable
from farshore.serve import onnx_inputs


class OnnxEngine:
    """A session with one thread, shared by all requests, and one with all cores for a lone request.

    Args:
        path: the model file; loaded by path, so that external data is found beside it and nowhere else.
        threads: cores that a lone request may use.

    Raises:
        Invalid: onnxruntime refuses the model.
        MemoryError: not enough memory.

    """

    def __init__(self, path: Path, threads: int) -> None:
        onnxruntime.set_default_logger_severity(3)
        model = onnx_inputs.without_initializers(path) or str(path)
        try:
            self._shared = _session(model, 1)
            self._alone = _session(model, threads) if threads > 1 else self._shared
        except Exception as error:  # noqa: BLE001 - onnxruntime's own exceptions have no common base
            if "bad_alloc" in str(error) or "Failed to allocate memory" in str(error):
                raise MemoryError from None
            raise Invalid(f"onnxruntime refuses {path.name}: {_line(error)}") from None
        self._outputs = [output.name for output in self._shared.get_outputs()]

    def run(self, feeds: Mapping[str, NDArray[Any]], *, alone: bool) -> dict[str, NDArray[Any]]:
        """As :meth:`farshore.serve.engine.Engine.run`."""
        session = self._alone if alone else self._shared
        try:
            found = session.run(self._outputs, dict(feeds))
        except Exception as error:  # noqa: BLE001 - as above
            raise Unavailable(f"onnxruntime failed: {_line(error)}") from None
        return dict(zip(self._outputs, found, strict=True))


@cache
def _share_arena() -> None:
    """One arena for all sessions of this process: by itself each keeps room for a whole run, 10–20 MB on small detectors."""
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    onnxruntime.create_and_register_allocator(memory, None)


def _session(model: str | bytes, threads: int) -> Any:
    _share_arena()
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.enable_mem_pattern = False  # it buys no time here, and keeps memory
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    # Threads that wait by spinning take the core that the next request's decoding needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
