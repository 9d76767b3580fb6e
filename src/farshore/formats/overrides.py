"""``farshore.toml``: what an operator says of a model, which wins over what is recognised.

Already parsed from TOML to a dict by whoever reads files. Unknown keys are errors: a misspelt option that is silently left
aside would be found out on a device.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from farshore.core import documents
from farshore.core.errors import Invalid
from farshore.core.manifest import Requirements, Task

FILE = "farshore.toml"

Side = Annotated[int, Meta(ge=1, le=16384)]
Share = Annotated[float, Meta(ge=0, le=1)]
Numbers = Annotated[tuple[float, ...], Meta(min_length=1, max_length=4)]


class InputOptions(Struct, frozen=True, omit_defaults=True):
    """``[input]``: as :class:`farshore.core.manifest.PictureInput`; ``mean`` and ``std`` may be one number for all channels."""

    tensor: str | None = None
    layout: Literal["NHWC", "NCHW"] | None = None
    width: Side | None = None
    height: Side | None = None
    resize: Literal["stretch", "letterbox", "letterbox-corner"] | None = None
    filter: Literal["linear", "antialias"] | None = None
    colour: Literal["RGB", "BGR", "GRAY"] | None = None
    mean: float | Numbers | None = None
    std: float | Numbers | None = None
    pad: Annotated[int, Meta(ge=0, le=255)] | None = None


class LabelOptions(Struct, frozen=True, omit_defaults=True):
    """``[labels]``: the file beside the model, and how many of its lines come before class 0."""

    file: str | None = None
    skip: Annotated[int, Meta(ge=0, le=1000)] | None = None


class DecodeOptions(Struct, frozen=True, omit_defaults=True):
    """``[decode]``: settings of the decoder; docs/formats/recognition.md says which decoder takes which."""

    threshold: Share | None = None
    iou: Share | None = None
    top: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    softmax: bool | None = None
    activation: Literal["none", "sigmoid", "softmax"] | None = None
    coordinates: Literal["pixels", "relative"] | None = None
    boxes: Literal["corners", "centre"] | None = None
    background: Annotated[int, Meta(ge=0, le=100_000)] | None = None
    no_object: bool | None = None
    decoded: bool | None = None
    anchors: Annotated[tuple[tuple[float, ...], ...], Meta(min_length=1, max_length=8)] | None = None
    strides: Annotated[tuple[Side, ...], Meta(min_length=1, max_length=8)] | None = None
    formula: Literal["exp", "square"] | None = None
    scale_xy: Annotated[tuple[float, ...], Meta(min_length=1, max_length=8)] | None = None
    layout: Literal["HW", "CHW", "HWC", "HWAC", "AHWC"] | None = None
    keypoints: Annotated[int, Meta(ge=1, le=1000)] | None = None
    reg_max: Annotated[int, Meta(ge=1, le=64)] | None = None
    range: tuple[float, float] | None = None
    variances: tuple[float, float] | None = None
    priors: Literal["ultra-light"] | None = None
    image_shape: str | None = None
    image_shape_order: Literal["hw", "wh"] | None = None


class Overrides(Struct, frozen=True, omit_defaults=True):
    """A whole ``farshore.toml``.

    Attributes:
        task, decoder: of docs/formats/recognition.md.
        input, labels, decode: see there.
        outputs: role → output tensor's name.
        requires: what a device needs.
        acceptance: the cases as they stand; whoever reads the pictures checks them.

    """

    task: Task | None = None
    decoder: str | None = None
    input: InputOptions = InputOptions()
    outputs: dict[str, str] = {}
    labels: LabelOptions = LabelOptions()
    decode: DecodeOptions = DecodeOptions()
    requires: Requirements | None = None
    acceptance: tuple[dict[str, Any], ...] = ()


_SECTIONS: dict[str, type[Struct]] = {
    "": Overrides, "input": InputOptions, "labels": LabelOptions, "decode": DecodeOptions, "requires": Requirements
}  # fmt: skip


def overrides(document: Mapping[str, Any]) -> Overrides:
    """Check a parsed ``farshore.toml``.

    Args:
        document: as ``tomllib`` gives it.

    Returns:
        The options; what is not given is None or empty.

    Raises:
        Invalid: a key that is not known (with the nearest that is), or a value that does not fit; the message names it.

    """
    for section, kind in _SECTIONS.items():
        table = document if not section else document.get(section, {})
        if not isinstance(table, Mapping):
            raise Invalid(f"{FILE}: {section} must be a table: [{section}]")
        _refuse_unknown(section, table, [field.name for field in msgspec.structs.fields(kind)])
    found = documents.convert(dict(document), Overrides, what=FILE)
    _refuse_nonfinite(document, FILE)
    for name in ("mean", "std"):
        value = getattr(found.input, name)
        if name == "std" and value is not None and (value == 0 or (isinstance(value, tuple) and 0 in value)):
            raise Invalid(f"{FILE}: input.std must not be 0: pixels are divided by it")
    return found


def given(options: Struct) -> dict[str, Any]:
    """The options of a table that were given, as JSON has them: lists, no tuples."""
    return {name: _listed(value) for name, value in documents.builtins(options).items()}


def _listed(value: Any) -> Any:
    return [_listed(inner) for inner in value] if isinstance(value, tuple | list) else value


def _refuse_unknown(section: str, table: Mapping[str, Any], known: list[str]) -> None:
    prefix = f"{section}." if section else ""
    for key in table:
        if key in known:
            continue
        near = difflib.get_close_matches(str(key)[:64], known, n=2, cutoff=0.6)
        hint = (
            f"did you mean {' or '.join(prefix + name for name in near)}?"
            if near
            else f"known: {', '.join(sorted(known))}"
        )
        raise Invalid(f"{FILE}: unknown key {prefix}{str(key)[:64]!s}; {hint}")


def _refuse_nonfinite(value: Any, where: str) -> None:
    """TOML can say ``nan`` and ``inf``; the manifest cannot."""
    if isinstance(value, float) and not math.isfinite(value):
        raise Invalid(f"{where}: {value} is not a number that can be used")
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _refuse_nonfinite(inner, f"{where}: {key}")
    elif isinstance(value, list | tuple):
        for inner in value:
            _refuse_nonfinite(inner, where)
