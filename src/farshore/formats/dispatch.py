"""Which format a file is, by looking, and its reader."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from farshore.core.errors import Invalid
from farshore.formats import onnx_info, onnx_segments, safetensors, tflite, tflite_info, tflite_segments
from farshore.formats.bounds import Malformed
from farshore.formats.info import ModelInfo
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


def segment_external(model: ReadableBuffer, location: str, size: int) -> SegmentMap:
    """Split a file that holds an ONNX model's weights beside it into tensors and the rest.

    Args:
        model: the whole model file.
        location: the other file's name.
        size: its bytes.

    Returns:
        The map of the other file; ``opaque`` if the model cannot be read.

    """
    with memoryview(model) as raw, raw.cast("B") as view:
        try:
            return onnx_segments.external_segments(view, location, size)
        except Malformed as error:
            error.__traceback__ = None
        return cover("opaque", size, ())


def inspect(data: ReadableBuffer, *, external: Mapping[str, int] | None = None) -> ModelInfo:
    """Read what a model file says of itself.

    Args:
        data: the whole file, as for :func:`segment`.
        external: sizes in bytes of the files that lie beside it, by name; None if that is not known.

    Raises:
        Invalid: it is not a model that a runtime here can load; or it needs files that are not in ``external`` or are
            too short, or that are not named by a plain file name. The message says which.

    """
    with memoryview(data) as raw, raw.cast("B") as view:
        reader = tflite_info.inspect if bytes(view[4:8]) == tflite.IDENTIFIER else onnx_info.inspect
        try:
            info = reader(view)
        except Malformed as error:
            error.__traceback__ = None
            reason = str(error)
        else:
            _check_external(info, external)
            return info
        if segment(view).format == "safetensors":
            raise Invalid("safetensors holds weights but no graph to run: export the model as ONNX or LiteRT")
        raise Invalid(f"neither an ONNX nor a LiteRT model ({reason}): export the model again")


def _check_external(info: ModelInfo, external: Mapping[str, int] | None) -> None:
    for file in info.external:
        if external is None:
            continue
        if file.location not in external:
            raise Invalid(f"the model keeps weights in {file.location!r}, which is not beside it: push the folder")
        if external[file.location] < file.size:
            raise Invalid(
                f"{file.location!r} has {external[file.location]} bytes, but the model reads {file.size}: it is cut short"
            )
