"""Zstandard (RFC 8878), through the standard library's module where Python has it and its backport where not."""

from __future__ import annotations

import sys
from typing import Any

from farshore.core.errors import Corrupt

if sys.version_info >= (3, 14):
    from compression import zstd as _zstd
else:
    from backports import zstd as _zstd

MAX_WINDOW_LOG = 25
"""A frame that wants to look back further than 32 MiB is refused: that much memory it would take."""

_Compression, _Decompression = _zstd.CompressionParameter, _zstd.DecompressionParameter


def compress(
    data: bytes | memoryview, level: int, history: bytes = b"", *, window_log: int = 0, far: bool = False
) -> bytes:
    """One frame that says its length.

    Args:
        data: what it holds.
        level: of effort, 1 to 22.
        history: what the reader has before it, and the frame may refer to.
        window_log: how far it looks back, as the logarithm of bytes; 0 leaves it to the level.
        far: look for matches at long distance, too.

    """
    options: dict[int, int] = {_Compression.compression_level: level}
    if window_log:
        options[_Compression.window_log] = window_log
    if far:
        options[_Compression.enable_long_distance_matching] = 1
    writer = _zstd.ZstdCompressor(options=options, zstd_dict=_raw(history))
    writer.set_pledged_input_size(len(data))
    packed: bytes = writer.compress(data, _zstd.ZstdCompressor.FLUSH_FRAME)
    return packed


def decompress(data: bytes, length: int, history: bytes = b"") -> bytes:
    """What a frame holds, told its length.

    Args:
        data: one frame, and nothing behind it.
        length: of the result; no more memory than that and the window is taken.
        history: what it may refer to.

    Raises:
        Corrupt: it is none, is damaged, or holds another number of bytes.

    """
    try:
        # The frame's own word on its length would be believed before ours, and that much memory taken.
        told = _zstd.get_frame_info(data).decompressed_size
        if told not in {None, length}:
            raise Corrupt("a frame of the patch holds another number of bytes than it says; discard the patch")
        reader = _zstd.ZstdDecompressor(
            options={_Decompression.window_log_max: MAX_WINDOW_LOG}, zstd_dict=_raw(history)
        )
        found: bytes = reader.decompress(data, length)
        beyond = b"" if reader.eof else reader.decompress(b"", 1)  # what ends the frame may not have been looked at
    except _zstd.ZstdError as error:
        raise Corrupt("a frame of the patch does not decompress; discard the patch") from error
    if len(found) != length or beyond or not reader.eof or reader.unused_data:
        raise Corrupt("a frame of the patch holds another number of bytes than it says; discard the patch")
    return found


def _raw(history: bytes) -> Any:
    """Bytes to refer to, as they are; the library knows none of fewer than eight."""
    return _zstd.ZstdDict(history, is_raw=True).as_prefix if len(history) >= 8 else None
