"""LiteRT model metadata: the flatbuffer in the model and the files packed behind it (metadata_schema.fbs, "M001")."""

from __future__ import annotations

from dataclasses import dataclass, field

from farshore.formats.bounds import Malformed
from farshore.formats.flatbuffer import Flat
from farshore.formats.info import Normalisation

NAME = "TFLITE_METADATA"
_IDENTIFIER = b"M001"
_MAX_CHANNELS = 16
_MAX_TEXT = 1 << 16
_KINDS = {
    1: "descriptions", 2: "labels", 3: "labels", 4: "score calibration", 5: "vocabulary", 6: "index"
}  # fmt: skip
"""``AssociatedFileType``; 2 are labels along an axis, 3 labels of a tensor's values: both class names by index."""


@dataclass(slots=True)
class TensorDocument:
    """``TensorMetadata``: what is said of one input or output. ``files`` are (name, kind)."""

    name: str = ""
    description: str = ""
    colour: str = ""
    normalisation: Normalisation | None = None
    boxes: str = ""
    files: list[tuple[str, str]] = field(default_factory=list)


@dataclass(slots=True)
class Document:
    """``ModelMetadata``; ``inputs`` and ``outputs`` in the order of the first subgraph's."""

    texts: dict[str, str] = field(default_factory=dict)
    inputs: list[TensorDocument] = field(default_factory=list)
    outputs: list[TensorDocument] = field(default_factory=list)
    files: list[tuple[str, str]] = field(default_factory=list)


def parse(flat: Flat) -> Document:
    """Read the metadata.

    Args:
        flat: a reader over the metadata buffer's bytes.

    Raises:
        Malformed: it is not metadata, or exceeds the parser's limits.

    """
    if bytes(flat.view[4:8]) != _IDENTIFIER:
        raise Malformed("no M001 identifier")
    root = flat.root()
    document = Document()
    for index, name in ((0, "name"), (1, "description"), (2, "version"), (4, "author"), (5, "license")):
        text = flat.text(root, index, _MAX_TEXT).strip("\0 \n")
        if text:
            document.texts[name] = text
    document.files = _files(flat, root, 6)
    for subgraph in flat.tables(root, 3)[:1]:
        document.inputs = [_tensor(flat, table) for table in flat.tables(subgraph, 2)]
        document.outputs = [_tensor(flat, table) for table in flat.tables(subgraph, 3)]
        document.files += _files(flat, subgraph, 4)
    return document


def _tensor(flat: Flat, table: int) -> TensorDocument:
    found = TensorDocument(flat.text(table, 0), flat.text(table, 1))
    content = flat.table(table, 3)
    kind = flat.u8(content, 0) if content else 0
    properties = flat.table(content, 1) if kind else 0
    if kind == 2 and properties:  # ImageProperties.color_space
        found.colour = {1: "RGB", 2: "GRAY"}.get(flat.i8(properties, 0), "")
    for unit in flat.tables(table, 4):
        options = flat.table(unit, 1) if flat.u8(unit, 0) == 1 else 0  # NormalizationOptions
        if options:
            mean, std = flat.vector(options, 0, 4), flat.vector(options, 1, 4)
            if 0 < mean.length == std.length <= 4 * _MAX_CHANNELS:
                found.normalisation = _normalisation(flat.values(mean, "f"), flat.values(std, "f"))
    found.files = _files(flat, table, 6)
    return found


def _normalisation(mean: tuple[float, ...], std: tuple[float, ...]) -> Normalisation | None:
    finite = all(abs(value) < 1e30 for value in (*mean, *std)) and 0 not in std
    return Normalisation(mean, std) if finite else None


def _files(flat: Flat, table: int, field_number: int) -> list[tuple[str, str]]:
    return [(flat.text(entry, 0), _KINDS.get(flat.i8(entry, 2), "")) for entry in flat.tables(table, field_number)]
