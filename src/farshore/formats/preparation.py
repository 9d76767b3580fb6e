"""How a picture becomes the model's input: each point decided by the best source there is, and why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from farshore.core.errors import Invalid
from farshore.core.manifest import PictureInput
from farshore.formats.family import Facts, Picture, Preparation, Question, Reason, Source, find_picture, sizes
from farshore.formats.info import ModelInfo, Normalisation
from farshore.formats.overrides import FILE, InputOptions

_NORMALISING = frozenset({"Sub", "Mul", "Div", "Add", "BatchNormalization", "SUB", "MUL", "DIV", "ADD"})
Note = Callable[[Reason], None]


def picture_of(info: ModelInfo, options: InputOptions) -> tuple[Picture | None, str]:
    """The input that takes a picture, and why.

    Raises:
        Invalid: ``options`` name an input that is not there, or a layout that does not fit it.

    """
    found, why = find_picture(info)
    if options.tensor is None and options.layout is None:
        return found, why
    names = [tensor.name for tensor in info.inputs]
    name = options.tensor or (found.tensor.name if found is not None else names[0] if len(names) == 1 else None)
    if name not in names:
        raise Invalid(
            f"{FILE}: input.tensor {name!r} is not an input of the model; it has {', '.join(names) or 'none'}"
        )
    if found is not None and found.tensor.name == name and options.layout in {None, found.layout}:
        return found, f"{FILE} says so"
    tensor = info.inputs[names.index(name)]
    shape = sizes(tensor)
    layout = options.layout or ("NCHW" if info.format == "onnx" else "NHWC")
    if len(shape) != 4:
        raise Invalid(f"{FILE}: input {name!r} of shape {list(tensor.shape)} cannot take a picture")
    channels = shape[1] if layout == "NCHW" else shape[3]
    if channels not in {1, 3, None}:
        raise Invalid(f"{FILE}: input.layout {layout} gives input {name!r} {channels} channels; 1 or 3 are needed")
    height, width = shape[2:] if layout == "NCHW" else shape[1:3]
    return Picture(tensor, layout, channels or 3, height, width), f"{FILE} says so"


def prepare(
    facts: Facts, family: Preparation, options: InputOptions, note: Note
) -> tuple[PictureInput | None, list[Question]]:
    """Decide how pictures are fed.

    Args:
        facts: of the model; its picture must be known.
        family: how the recognised family's models see a picture.
        options: what the operator says.
        note: takes the reasons.

    Returns:
        The preparation, None while something is missing; and what is missing.

    Raises:
        Invalid: ``options`` contradict the file.

    """
    picture = facts.picture
    assert picture is not None
    size = _size(picture, facts.info, family, options, note)
    colour = _colour(picture, facts.info, family, options, note)
    questions: list[Question] = []
    if size is None:
        questions.append(
            Question("input.width", "the file leaves the picture's size open: give input.width and input.height")
        )
    numbers = _normalisation(picture, facts.info, family, options, note)
    if numbers is None:
        questions.append(
            Question(
                "input.mean",
                "the file does not tell how pixels are normalised: give input.mean and input.std, in units of 0…255 "
                "(0 and 255 for 0…1; 127.5 and 127.5 for −1…1; 0 and 1 for 0…255)",
            )
        )
    if size is None or numbers is None:
        return None, questions
    resize = options.resize or family.resize
    _say(note, "input.resize", resize, family, given=options.resize is not None)
    pad = family.pad if options.pad is None else options.pad
    if resize != "stretch":
        _say(note, "input.pad", str(pad), family, given=options.pad is not None)
    channels = 1 if colour == "GRAY" else 3
    mean, std = (_each(values, channels, picture.tensor.name) for values in numbers)
    return (
        PictureInput(
            tensor=picture.tensor.name, layout=picture.layout, width=size[1], height=size[0],
            resize=resize, filter=options.filter or "linear", colour=colour, mean=mean, std=std, pad=pad,
        ),
        questions,
    )  # fmt: skip


def _say(note: Note, what: str, value: str, family: Preparation, *, given: bool) -> None:
    if given:
        note(Reason(what, value, f"{FILE} says so", "override"))
    else:
        usual: Source = "assumed" if family.assumed or not family.why else "family"
        note(Reason(what, value, family.why or "most models are fed so", usual))


def _size(
    picture: Picture, info: ModelInfo, family: Preparation, options: InputOptions, note: Note
) -> tuple[int, int] | None:
    stated = _stated_size(info)
    found: list[int] = []
    for axis, fixed, option in ((0, picture.height, options.height), (1, picture.width, options.width)):
        name = ("height", "width")[axis]
        if fixed is not None:
            if option not in {None, fixed}:
                raise Invalid(f"{FILE}: input.{name} is {option}, but the model's input has {fixed}: leave it out")
            found.append(fixed)
        elif option is not None:
            note(Reason(f"input.{name}", str(option), f"{FILE} says so", "override"))
            found.append(option)
        elif stated is not None:
            note(Reason(f"input.{name}", str(stated[axis]), "the model's metadata says so (imgsz)", "file"))
            found.append(stated[axis])
        elif family.size is not None:
            why = f"the file leaves it open; usual for this family ({family.why})"
            note(Reason(f"input.{name}", str(family.size[axis]), why, "assumed"))
            found.append(family.size[axis])
        else:
            return None
    if max(found) > 16384:
        raise Invalid(f"the model takes pictures of {found[1]}×{found[0]} pixels; at most 16384 a side are fed")
    return found[0], found[1]


def _stated_size(info: ModelInfo) -> tuple[int, int] | None:
    """Ultralytics' ``imgsz``: ``[640, 640]``."""
    digits = [part for part in info.metadata.get("imgsz", "").strip("[] ").split(",") if part.strip().isdecimal()]
    sides = [int(part) for part in digits if len(part) < 6]
    return (sides[0], sides[1]) if len(sides) == 2 and all(1 <= side <= 16384 for side in sides) else None


def _colour(
    picture: Picture, info: ModelInfo, family: Preparation, options: InputOptions, note: Note
) -> Literal["RGB", "BGR", "GRAY"]:
    if picture.channels == 1:
        if options.colour not in {None, "GRAY"}:
            raise Invalid(
                f"{FILE}: input.colour is {options.colour}, but the model's input has one channel: GRAY, or leave it out"
            )
        note(Reason("input.colour", "GRAY", "the input has one channel", "file"))
        return "GRAY"
    if options.colour == "GRAY":
        raise Invalid(f"{FILE}: input.colour is GRAY, but the model's input has three channels: RGB or BGR")
    if options.colour is not None:
        note(Reason("input.colour", options.colour, f"{FILE} says so", "override"))
        return options.colour
    if info.colours.get(picture.tensor.name) == "RGB":
        note(Reason("input.colour", "RGB", "the model's metadata says so", "file"))
        return "RGB"
    _say(note, "input.colour", family.colour, family, given=False)
    return family.colour


def _normalisation(
    picture: Picture, info: ModelInfo, family: Preparation, options: InputOptions, note: Note
) -> tuple[Any, Any] | None:
    """Mean and std, each one number or one a channel; None if they cannot be told."""
    name = picture.tensor.name
    plain = ((0.0,), (1.0,))
    if options.mean is not None or options.std is not None:
        found = (0.0 if options.mean is None else options.mean, 1.0 if options.std is None else options.std)
        note(Reason("input.mean", _told(*found), f"{FILE} says so", "override"))
        return found
    stated = info.normalisation.get(name)
    if picture.tensor.dtype in {"uint8", "int8"}:
        if picture.tensor.dtype == "int8" and stated is not None and not _full_range(picture, stated):
            note(Reason("input.mean", _told(stated.mean, stated.std), "the model's metadata says so", "file"))
            return stated.mean, stated.std
        note(Reason("input.mean", _told(*plain), f"the input takes {picture.tensor.dtype}: pixels as they are", "file"))
        return plain
    if stated is not None:
        note(Reason("input.mean", _told(stated.mean, stated.std), "the model's metadata says so", "file"))
        return stated.mean, stated.std
    if family.mean is not None and family.std is not None:
        _say(note, "input.mean", _told(family.mean, family.std), family, given=False)
        return family.mean, family.std
    readers = info.read_by.get(name, ())
    if readers and _NORMALISING.issuperset(readers):
        why = f"the graph begins with {', '.join(readers)}: it normalises by itself"
        note(Reason("input.mean", _told(*plain), why, "assumed"))
        return plain
    return None


def _told(mean: Any, std: Any) -> str:
    """Both in words: one number where all channels have the same."""

    def numbers(values: Any) -> str:
        told = [f"{value:g}" for value in (values if isinstance(values, tuple | list) else (values,))]
        return told[0] if len(set(told)) == 1 else " ".join(told)

    return f"{numbers(mean)}, std {numbers(std)}"


def _full_range(picture: Picture, stated: Normalisation) -> bool:
    """Whether quantising the stated normalisation of 0…255 gives −128…127, give or take rounding."""
    scale, zero = picture.tensor.scale, picture.tensor.zero_point
    if scale is None or zero is None:
        return True
    ends = [(value - stated.mean[0]) / stated.std[0] / scale + zero for value in (0, 255)]
    return abs(ends[0] + 128) <= 2 and abs(ends[1] - 127) <= 2


def _each(values: Any, channels: int, name: str) -> tuple[float, ...]:
    """One number for each channel."""
    numbers = tuple(float(value) for value in values) if isinstance(values, tuple | list) else (float(values),)
    if len(numbers) == 1:
        return numbers * channels
    if len(numbers) != channels:
        raise Invalid(f"input {name!r} has {channels} channels, but {len(numbers)} numbers are given to normalise them")
    return numbers
