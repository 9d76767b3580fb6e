"""What each tensor of a file takes of the bytes of a patch. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from itertools import islice

from farshore.delta import PatchInfo
from farshore.formats import SegmentMap


def costs(patch: PatchInfo, segments: SegmentMap) -> dict[str, int]:
    """Bytes by tensor; "" for all bytes that are no tensor's. In sum the patch, rounded.

    A frame's bytes are known exactly; among the tensors in one frame they are shared out by length.

    Args:
        patch: what it says of itself.
        segments: of the file that it makes.

    """
    starts = [one.offset for one in segments.segments]
    shares: defaultdict[str, float] = defaultdict(float)
    for frame in patch.frames:
        rate = frame.size / max(frame.target_bytes, 1)
        for part in frame.parts:
            end = part.offset + part.length
            first = max(bisect_right(starts, part.offset) - 1, 0)
            for one in islice(segments.segments, first, bisect_left(starts, end)):
                inside = min(end, one.offset + one.length) - max(part.offset, one.offset)
                shares[one.name if one.dtype else ""] += rate * max(inside, 0)
    shares[""] += patch.size - sum(frame.size for frame in patch.frames)
    return {name: round(share) for name, share in shares.items()}
