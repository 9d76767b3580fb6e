"""LiteRT (TensorFlow Lite) models by ai-edge-litert."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from farshore import formats
from farshore.core.errors import FarshoreError, Invalid, Unavailable


class _Context:
    """One interpreter: runs one request at a time. The file is mapped, so that interpreters share its weights."""

    def __init__(self, path: Path, threads: int) -> None:
        self._interpreter = Interpreter(model_path=str(path), num_threads=threads)
        self._interpreter.allocate_tensors()
        self._inputs = {entry["name"]: entry for entry in self._interpreter.get_input_details()}
        self._outputs = self._interpreter.get_output_details()

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """As :meth:`farshore.serve.engine.Engine.run`."""
        try:
            return self._run(feeds)
        except (ValueError, RuntimeError, KeyError) as error:
            # A size that it refused must not stay: the next request compares with what really stands there.
            self._inputs = {entry["name"]: entry for entry in self._interpreter.get_input_details()}
            raise Unavailable(f"LiteRT failed: {_line(error)}") from None

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


class LiteRtModel:
    """A model file; each context of it runs one request at a time.

    Args:
        path: the model file.

    """

    shared = False

    def __init__(self, path: Path) -> None:
        self._path = path

    @cached_property
    def steady(self) -> bool:
        """As :attr:`farshore.serve.engine.Model.steady`."""
        return _same_with_threads(self._path)

    def context(self, threads: int) -> _Context:
        """As :meth:`farshore.serve.engine.Model.context`."""
        try:
            return _Context(self._path, threads)
        except (ValueError, RuntimeError) as error:
            raise Invalid(f"LiteRT refuses {self._path.name}: {_line(error)}") from None

    def optimised(self) -> bytes:
        """As :meth:`farshore.serve.engine.Model.optimised`; LiteRT maps its files as they are."""
        return b""


def _same_with_threads(path: Path) -> bool:
    """Whether answers do not depend on the number of threads.

    ``TFLite_Detection_PostProcess`` with regular suppression splits the classes among threads and loses detections on the way
    (seen in ai-edge-litert 2.3: two threads found two of three objects).
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            custom = formats.inspect(data).custom
    except (FarshoreError, ValueError):
        return True  # LiteRT will say what is wrong with it
    return not any(one.op == "TFLite_Detection_PostProcess" and one.settings.get("use_regular_nms") for one in custom)


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
