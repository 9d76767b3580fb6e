"""Which model a file of external data stands beside: ONNX keeps weights there, and only the model says what they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from farshore import formats
from farshore.core.errors import Invalid, NotFound
from farshore.store.views import view


def maps(paths: Sequence[Path], data: Sequence[memoryview], models: Sequence[Path]) -> list[formats.SegmentMap]:
    """What a target and its bases are made of.

    Args:
        paths: the bases, then the target.
        data: their bytes, in the same order.
        models: models that they belong to: none (then looked for), one for all, or one for each.

    Returns:
        The target's map first, then the bases'.

    Raises:
        Invalid: the models are not as many; or one that was given has no weights in such a file.
        NotFound: a model is not there.

    """
    if len(models) not in {0, 1, len(paths)}:
        raise Invalid(f"--model {len(models)} times for {len(paths)} files: give it once, or once for each")
    given: Sequence[Path | None] = [*models] * (len(paths) if len(models) == 1 else 1) or [None] * len(paths)
    found = [_map(path, bytes_, model) for path, bytes_, model in zip(paths, data, given, strict=True)]
    return [found[-1], *found[:-1]]


def _map(path: Path, data: memoryview, model: Path | None) -> formats.SegmentMap:
    own = formats.segment(data)
    if own.format != "opaque":
        return own
    if model is None:
        there = [one for one in sorted(path.absolute().parent.glob("*.onnx")) if path.name in _locations(one)]
        return formats.segment_external(view(there[0]), path.name, len(data)) if len(there) == 1 else own
    if not model.is_file():
        raise NotFound(f"no file {str(model)!r}")
    locations = _locations(model)
    if not locations:
        raise Invalid(f"{model} keeps no weights in another file: leave --model out")
    if path.name not in locations and len(locations) > 1:
        raise Invalid(f"{model} keeps weights in {', '.join(locations)}: none is named {path.name}")
    location = path.name if path.name in locations else locations[0]
    return formats.segment_external(view(model), location, len(data))


def _locations(model: Path) -> list[str]:
    """Files in which a model keeps weights; none if it is no model."""
    try:
        return [file.location for file in formats.inspect(view(model)).external]
    except Invalid:
        return []
