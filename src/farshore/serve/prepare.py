"""From pixels to the model's input tensor, exactly as :class:`farshore.core.manifest.PictureInput` says, and back again.

:class:`Placement` remembers where the picture came to lie in the tensor, so that boxes can be told in its own pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from farshore.core.errors import Invalid
from farshore.core.manifest import PictureInput, Tensor
from farshore.serve import resize
from farshore.serve.pictures import Pixels


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a picture lies in an input tensor; all in pixels.

    Attributes:
        picture: height and width of the picture sent, upright.
        size: height and width of the tensor.
        top: first row of the tensor that shows the picture; ``left`` likewise.
        height: rows that show it; ``width`` likewise.

    """

    picture: tuple[int, int]
    size: tuple[int, int]
    top: int
    left: int
    height: int
    width: int

    def boxes(self, boxes: NDArray[Any]) -> NDArray[np.float64]:
        """Boxes of the tensor as boxes of the picture, clipped to it.

        Args:
            boxes: N×4, ``top, left, bottom, right`` in pixels of the tensor.

        Returns:
            N×4 likewise, in pixels of the picture sent.

        """
        offset = np.array([self.top, self.left, self.top, self.left], np.float64)
        return self.clip((boxes.astype(np.float64) - offset) * self._scale())

    def clip(self, boxes: NDArray[Any]) -> NDArray[np.float64]:
        """Boxes in pixels of the picture, cut at its edges."""
        height, width = self.picture
        clipped: NDArray[np.float64] = np.clip(boxes, 0.0, np.array([height, width, height, width], np.float64))
        return clipped

    def points(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """N×2 points ``y, x`` in pixels of the tensor as points of the picture, not clipped."""
        offset = np.array([self.top, self.left], np.float64)
        return (points.astype(np.float64) - offset) * self._scale()[:2]

    def _scale(self) -> NDArray[np.float64]:
        y, x = self.picture[0] / self.height, self.picture[1] / self.width
        return np.array([y, x, y, x], np.float64)


def place(spec: PictureInput, picture: tuple[int, int]) -> Placement:
    """Where a picture of that height and width will lie."""
    height, width = picture
    if spec.resize == "stretch":
        return Placement(picture, (spec.height, spec.width), 0, 0, spec.height, spec.width)
    scale = min(spec.width / width, spec.height / height)
    inner_height = min(spec.height, max(1, int(height * scale)))
    inner_width = min(spec.width, max(1, int(width * scale)))
    top = left = 0
    if spec.resize == "letterbox":
        top, left = (spec.height - inner_height) // 2, (spec.width - inner_width) // 2
    return Placement(picture, (spec.height, spec.width), top, left, inner_height, inner_width)


class Preparer:
    """Makes input tensors of pictures.

    Args:
        spec: how.
        tensor: what the model takes there.

    Raises:
        Invalid: the model takes a type that no picture can become.

    """

    def __init__(self, spec: PictureInput, tensor: Tensor) -> None:
        self._spec = spec
        self._channels = 1 if spec.colour == "GRAY" else 3
        self._dtype = np.dtype(tensor.dtype)
        mean, std = _each(spec.mean, self._channels, "mean"), _each(spec.std, self._channels, "std")
        if not np.all(std):
            raise Invalid("the manifest divides pixels by zero: std must not be 0")
        if self._dtype == np.int8:
            # Eight signed bits: the stored value of the real number, or the plain shift where that is all that is known.
            scale = tensor.scale or 1.0
            zero = tensor.zero_point if tensor.zero_point is not None else -128
            plain = not tensor.scale or (not mean.any() and np.all(std == 1.0))
            self._factor = np.ones_like(std) if plain else 1.0 / (std * scale)
            self._offset = np.full_like(mean, -128.0) if plain else zero - mean / (std * scale)
        elif self._dtype.kind == "f":
            self._factor, self._offset = 1.0 / std, -mean / std
        elif self._dtype != np.uint8:
            raise Invalid(f"input {tensor.name!r} takes {tensor.dtype}: no picture can be fed as that")

    def resized(self, pixels: Pixels, placement: Placement) -> NDArray[np.uint8]:
        """The picture as small as the model sees it; ``pixels``, which are many, are not needed any more then.

        Args:
            pixels: upright; of any size, as its aspect is the picture's.
            placement: from :func:`place` with the picture's own size.

        Returns:
            height×width×channels of the placement.

        """
        return _resize(pixels, placement, self._spec)

    def tensor(self, inner: NDArray[np.uint8], placement: Placement) -> NDArray[Any]:
        """The input tensor, batch of one.

        Args:
            inner: from :meth:`resized`.
            placement: the same.

        """
        if (placement.height, placement.width) != placement.size:
            whole = np.full((*placement.size, self._channels), self._spec.pad, np.uint8)
            bottom, right = placement.top + placement.height, placement.left + placement.width
            whole[placement.top : bottom, placement.left : right] = inner
            inner = whole
        if self._spec.layout == "NCHW":
            inner = inner.transpose(2, 0, 1)
        if self._dtype == np.uint8:
            return np.ascontiguousarray(inner)[None]
        return self._normalise(inner)[None]

    def _normalise(self, pixels: NDArray[np.uint8]) -> NDArray[Any]:
        shape = (self._channels, 1, 1) if self._spec.layout == "NCHW" else (self._channels,)
        real = np.multiply(pixels, self._factor.astype(np.float32).reshape(shape), dtype=np.float32, order="C")
        if self._offset.any():
            real += self._offset.astype(np.float32).reshape(shape)
        if self._dtype == np.int8:
            return np.clip(np.rint(real), -128, 127).astype(np.int8)
        return real if self._dtype == np.float32 else real.astype(self._dtype)


def _resize(pixels: Pixels, placement: Placement, spec: PictureInput) -> NDArray[np.uint8]:
    blend = resize.antialias if spec.filter == "antialias" else resize.bilinear
    resized = blend(pixels, placement.height, placement.width)
    if spec.colour == "BGR":
        return resized[:, :, ::-1]
    if spec.colour == "GRAY":
        # ITU-R BT.601 in 14 bits, as OpenCV and libjpeg have it.
        grey = resized.astype(np.int32) @ np.array([4899, 9617, 1868], np.int32)
        return ((grey + (1 << 13)) >> 14).astype(np.uint8)[:, :, None]
    return resized


def _each(values: tuple[float, ...], channels: int, what: str) -> NDArray[np.float64]:
    """One number for each channel; a single one holds for all."""
    if len(values) not in {1, channels} and not (channels == 1 and len(set(values)) == 1):
        raise Invalid(f"the manifest gives {len(values)} numbers as {what} for {channels} channels")
    return np.resize(np.array(values, np.float64), channels)
