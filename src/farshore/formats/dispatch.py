"""Which format a file is, by looking."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farshore.formats import onnx_segments, safetensors, tflite, tflite_segments
from farshore.formats.bounds import Malformed
from farshore.formats.segments import SegmentMap, cover

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


def segment(data: ReadableBuffer) -> SegmentMap:
    """Split a model file into tensors and the rest.

    Args:
        data: the whole file: ``bytes``, ``memoryview``, ``mmap``; contiguous. It is not copied.

    Returns:
        The map. A file that is no known format, is broken, or exceeds the parsers' limits is ``opaque``: one rest segment.

    """
    with memoryview(data) as raw, raw.cast("B") as view:
        parsers = [safetensors.segments, onnx_segments.segments]
        if bytes(view[4:8]) == tflite.IDENTIFIER:
            parsers = [tflite_segments.segments]
        for parser in parsers:
            try:
                return parser(view)
            except Malformed as error:
                # The traceback's frames hold views of the caller's buffer, which could then not be closed.
                error.__traceback__ = None
        return cover("opaque", len(view), ())
