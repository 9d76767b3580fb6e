"""Anything else: the outputs as they are."""

from __future__ import annotations

from typing import Any

import numpy as np

from farshore.serve.prepare import Placement
from farshore.serve.tasks.subject import Outputs, Subject, Want


class Tensors:
    """``outputs``: name → dtype, shape and numbers in C order. What JSON cannot say (NaN, infinity) is null."""

    def __init__(self, subject: Subject) -> None:
        del subject  # nothing to know

    def __call__(self, outputs: Outputs, place: Placement, want: Want) -> dict[str, Any]:
        return {
            "outputs": {
                name: {"dtype": array.dtype.name, "shape": list(array.shape), "data": _plain(array)}
                for name, array in outputs.items()
            }
        }


def _plain(array: np.ndarray[Any, Any]) -> list[Any]:
    flat = array.reshape(-1)
    if array.dtype.kind == "f" and not np.isfinite(flat).all():
        return [value if np.isfinite(value) else None for value in flat.tolist()]
    return flat.tolist()
