"""The kernel's one type."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from farshore.delta.twin.bins import Bins
from farshore.delta.twin.channels import Known
from farshore.delta.twin.plain import code_bytes
from farshore.delta.twin.quick import Quick
from farshore.delta.twin.ranges import Reader, Writer
from farshore.delta.twin.tree import Model
from farshore.delta.twin.values import Matrix

Bytes = bytes  # `Coder.bytes` hides the type inside the class


class Coder:
    """An arithmetic coder and its models; decodes ``stream`` if one is given."""

    def __init__(self, stream: bytes | None = None) -> None:
        self._coder: Writer | Reader = Writer() if stream is None else Reader(stream)
        self._models: dict[int, Model] = {}
        self._bins: dict[int, Bins] = {}
        self._memory: list[Known] = []

    @property
    def size(self) -> int:
        """Bytes written or read so far."""
        return self._coder.at

    def values(
        self, indices: object, base: object, model: int, spec: tuple[float, ...], kin: Sequence[int] = (0,) * 13, /
    ) -> None:
        """Code one matrix of grid indices in place."""
        u = np.frombuffer(indices, np.uint64)  # type: ignore[call-overload]
        a = np.frombuffer(base, np.float64)  # type: ignore[call-overload]
        if (
            len(u) != spec[6] * spec[7]
            or len(a) != len(u)
            or not (np.abs(a) <= 1e30).all()
            or (not spec[11] and spec[1] > 33)
        ):
            raise ValueError("matrix does not fit its description")
        if spec[11]:
            learnt = self._models.setdefault(model, Model())
            Matrix(self._coder, learnt, self._memory, spec, kin).code(u, a.tolist())
        else:
            Quick(self._coder, self._bins.setdefault(model, Bins()), spec).code(u, a.tolist())

    def bytes(self, data: bytearray, places: object, history: int, trained: int, level: int, /) -> None:
        """Code ``data[history:]`` in place."""
        pairs = np.frombuffer(places, np.int64).reshape(-1, 2).tolist()  # type: ignore[call-overload]
        if not 0 <= trained <= history <= len(data) or pairs[0][0] != 0:
            raise ValueError("history or places do not fit the data")
        code_bytes(self._coder, data, pairs, history, trained, level)

    def finish(self) -> Bytes:
        """End the stream and return it."""
        if not isinstance(self._coder, Writer):
            raise RuntimeError("a decoder has nothing to finish")  # noqa: TRY004 - as the kernel does
        return self._coder.finish()
