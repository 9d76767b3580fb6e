"""A loaded model that can be run: what the runtimes have in common.

An engine serves several threads at once. A request that is alone may use more than one core; several at once use one core
each, which answers most requests in a second (``docs/serving.md`` has the measurements).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from farshore.core.errors import Unavailable
from farshore.core.manifest import Runtime


class Engine(Protocol):
    """A model in memory."""

    def run(self, feeds: Mapping[str, NDArray[Any]], *, alone: bool) -> dict[str, NDArray[Any]]:
        """Run the model once.

        Args:
            feeds: every input by name, of the input's dtype and a shape that fits.
            alone: no other request runs now: take all cores.

        Returns:
            Every output by name, as the model stores it (integers are not dequantised). The caller owns the arrays.

        Raises:
            Unavailable: the runtime failed.

        """
        ...


def load(runtime: Runtime, path: Path, threads: int) -> Engine:
    """Load a model file.

    Args:
        runtime: which one.
        path: the model file; external data lies beside it.
        threads: requests that will run at once, and cores that a lone one may use.

    Raises:
        Invalid: the runtime refuses the model.
        Unavailable: the runtime is not installed here, or memory ran out.

    """
    try:
        if runtime == "onnxruntime":
            from farshore.serve import onnx  # noqa: PLC0415 - a worker loads one runtime, not all

            return onnx.OnnxEngine(path, threads)
        from farshore.serve import litert  # noqa: PLC0415

        return litert.LiteRtEngine(path, threads)
    except ImportError as error:
        extra = "onnx" if runtime == "onnxruntime" else "litert"
        raise Unavailable(f"{runtime} is not installed here: pip install 'farshore[{extra}]' ({error})") from None
    except MemoryError:
        raise Unavailable(f"{path.name}: not enough memory to load it") from None
