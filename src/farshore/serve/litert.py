"""LiteRT (TensorFlow Lite) models by ai-edge-litert."""

from __future__ import annotations

import mmap
import queue
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from farshore import formats
from farshore.core.errors import Invalid, Unavailable


class _Context:
    """One interpreter: runs one request at a time. The file is mapped, so that interpreters share its weights."""

    def __init__(self, path: Path, threads: int) -> None:
        self._interpreter = Interpreter(model_path=str(path), num_threads=threads)
        self._interpreter.allocate_tensors()
        self._inputs = {entry["name"]: entry for entry in self._interpreter.get_input_details()}
        self._outputs = self._interpreter.get_output_details()

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        try:
            return self._run(feeds)
        except (ValueError, RuntimeError):
            # A size that it refused must not stay: the next request compares with what really stands there.
            self._inputs = {entry["name"]: entry for entry in self._interpreter.get_input_details()}
            raise

    def _run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        changed = False
        for name, value in feeds.items():
            entry = self._inputs[name]
            if tuple(entry["shape"]) != value.shape:
                self._interpreter.resize_tensor_input(entry["index"], value.shape)
                changed = True
        if changed:
            self._interpreter.allocate_tensors()
            self._inputs = {entry["name"]: entry for entry in self._interpreter.get_input_details()}
        for name, value in feeds.items():
            self._interpreter.set_tensor(self._inputs[name]["index"], value)
        self._interpreter.invoke()
        return {entry["name"]: np.array(self._interpreter.get_tensor(entry["index"])) for entry in self._outputs}


class LiteRtEngine:
    """Interpreters with one thread, as many as requests at once, and one with all cores for a lone request.

    Args:
        path: the model file.
        threads: requests at once, and cores that a lone one may use.

    Raises:
        Invalid: LiteRT refuses the model.
        MemoryError: not enough memory.

    """

    def __init__(self, path: Path, threads: int) -> None:
        try:
            contexts = [_Context(path, 1) for _ in range(threads)]
            lone = [_Context(path, threads)] if threads > 1 and _same_with_threads(path) else []
        except (ValueError, RuntimeError) as error:
            raise Invalid(f"LiteRT refuses {path.name}: {_line(error)}") from None
        self._shared: queue.SimpleQueue[_Context] = queue.SimpleQueue()
        self._alone: queue.SimpleQueue[_Context] = queue.SimpleQueue()
        for context in contexts:
            self._shared.put(context)
        for context in lone:
            self._alone.put(context)

    def run(self, feeds: Mapping[str, NDArray[Any]], *, alone: bool) -> dict[str, NDArray[Any]]:
        """As :meth:`farshore.serve.engine.Engine.run`."""
        home, context = self._take(alone)
        try:
            return context.run(feeds)
        except (ValueError, RuntimeError, KeyError) as error:
            raise Unavailable(f"LiteRT failed: {_line(error)}") from None
        finally:
            home.put(context)

    def _take(self, alone: bool) -> tuple[queue.SimpleQueue[_Context], _Context]:
        if alone:
            try:
                return self._alone, self._alone.get_nowait()
            except queue.Empty:
                pass  # the request before it was alone too and still runs
        return self._shared, self._shared.get()


def _same_with_threads(path: Path) -> bool:
    """Whether answers do not depend on the number of threads.

    ``TFLite_Detection_PostProcess`` with regular suppression splits the classes among threads and loses detections on the way
    (seen in ai-edge-litert 2.3: two threads found two of three objects).
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        custom = formats.inspect(data).custom
    return not any(one.op == "TFLite_Detection_PostProcess" and one.settings.get("use_regular_nms") for one in custom)


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
