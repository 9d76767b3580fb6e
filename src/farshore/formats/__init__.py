"""What a model file says: its segments, its signature, what it is for. Bytes in, values out; no file, no runtime."""

from farshore.formats.dispatch import segment
from farshore.formats.segments import Quant, Role, Segment, SegmentMap

__all__ = ["Quant", "Role", "Segment", "SegmentMap", "segment"]
