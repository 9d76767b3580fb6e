"""What a model file says: its segments, its signature, what it is for. Bytes in, values out; no file, no runtime."""

from farshore.formats.difference import Change, Difference, TensorChange, diff
from farshore.formats.dispatch import inspect, segment, segment_external
from farshore.formats.families import FAMILIES
from farshore.formats.family import Family, Question, Reason
from farshore.formats.info import Custom, External, ModelInfo, Normalisation, PackedFile
from farshore.formats.labels import LabelList
from farshore.formats.overrides import Overrides, overrides
from farshore.formats.recognition import Recognition, recognise
from farshore.formats.segments import Quant, Role, Segment, SegmentMap

__all__ = [
    "FAMILIES",
    "Change",
    "Custom",
    "Difference",
    "External",
    "Family",
    "LabelList",
    "ModelInfo",
    "Normalisation",
    "Overrides",
    "PackedFile",
    "Quant",
    "Question",
    "Reason",
    "Recognition",
    "Role",
    "Segment",
    "SegmentMap",
    "TensorChange",
    "diff",
    "inspect",
    "overrides",
    "recognise",
    "segment",
    "segment_external",
]
