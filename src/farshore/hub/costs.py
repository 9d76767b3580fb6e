"""What each tensor of a file takes of the bytes of a patch. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from itertools import islice

from farshore.delta import PatchInfo
from farshore.formats import SegmentMap


def costs(patch: PatchInfo, segments: SegmentMap) -> dict[str, int]:
    """Bytes by tensor; "" for all bytes that are no tensor's. In sum the patch, rounded.

    Args:
        patch: what it says of itself.
        segments: of the file that it makes.

    """
    starts = [one.offset for one in segments.segments]
    shares: defaultdict[str, float] = defaultdict(float)
    for frame in patch.frames:
        for part in frame.parts:
            end, rate = part.offset + part.length, part.cost / part.length
            first = max(bisect_right(starts, part.offset) - 1, 0)
            for one in islice(segments.segments, first, bisect_left(starts, end)):
                inside = min(end, one.offset + one.length) - max(part.offset, one.offset)
                shares[one.name if one.dtype else ""] += rate * max(inside, 0)
    shares[""] += patch.size - sum(shares.values())
    return {name: round(share) for name, share in shares.items()}
