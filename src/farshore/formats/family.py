"""What a row of the recognition table is made of: the facts it looks at, and what it says when they fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from farshore.core.manifest import Task, Tensor
from farshore.formats.info import ModelInfo

Source = Literal["file", "family", "override", "assumed"]
"""Where a decision comes from: read in the file; known of the model family; said by the operator; usual, but not known."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something was decided.

    Attributes:
        what: the decision's option, as ``farshore.toml`` names it: ``decoder``, ``input.mean`` …
        value: what was decided, in few words.
        why: one line.
        source: how sure that is.

    """

    what: str
    value: str
    why: str
    source: Source = "family"


@dataclass(frozen=True, slots=True)
class Question:
    """What cannot be told from the file.

    Attributes:
        option: which option of ``farshore.toml`` answers it.
        text: one line that says what to give.
        blocking: whether the model cannot answer without; else the answer is only poorer.

    """

    option: str
    text: str
    blocking: bool = True


@dataclass(frozen=True, slots=True)
class Picture:
    """The input that takes a picture. Sizes are None where the file leaves them open."""

    tensor: Tensor
    layout: Literal["NHWC", "NCHW"]
    channels: int
    height: int | None
    width: int | None


@dataclass(frozen=True, slots=True)
class Facts:
    """What rows look at.

    Attributes:
        info: of the model.
        picture: the picture input; None if there is none, or several.
        others: the other inputs.
        labels: number of class names that came with the model; None if none came.
        task: what the metadata says the model is for; "" if nothing.

    """

    info: ModelInfo
    picture: Picture | None
    others: tuple[Tensor, ...]
    labels: int | None = None
    task: str = ""

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        return self.info.outputs

    def only(self) -> Tensor | None:
        """The single output, if the model has one and takes nothing but a picture."""
        return self.outputs[0] if len(self.outputs) == 1 and not self.others else None

    def size(self) -> tuple[int, int] | None:
        """Height and width of the picture input if the file fixes them."""
        if self.picture is None or self.picture.height is None or self.picture.width is None:
            return None
        return self.picture.height, self.picture.width

    def cells(self, strides: Sequence[int]) -> int | None:
        """Grid cells of feature maps at ``strides``; None if the input's size is open."""
        size = self.size()
        if size is None:
            return None
        return sum(-(-size[0] // stride) * -(-size[1] // stride) for stride in strides)


@dataclass(frozen=True, slots=True)
class Match:
    """What a row says when it fits.

    Attributes:
        outputs: role → output tensor's name.
        why: what in the file it was recognised by.
        settings: of the decoder, that follow from the file.
        classes: number of classes that the outputs speak of, if they tell.
        background: whether class 0 is "nothing".
        picture: what replaces the family's way to prepare a picture.
        questions: what the decoder needs and the file does not tell.
        names: class names that are part of the family.

    """

    outputs: dict[str, str]
    why: str
    settings: dict[str, Any] = field(default_factory=dict)
    classes: int | None = None
    background: bool = False
    picture: Preparation | None = None
    questions: tuple[Question, ...] = ()
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Preparation:
    """How a family's models were trained to see a picture; ``mean`` and ``std`` are None where members differ.

    Attributes:
        resize, colour, pad: as in :class:`farshore.core.manifest.PictureInput`.
        mean, std: one number, or one a channel in ``colour`` order, in units of 0…255.
        size: height and width, for files that leave them open.
        why: where that is written.
        assumed: usual for such models, but not known of this one.

    """

    resize: Literal["stretch", "letterbox", "letterbox-corner"] = "stretch"
    colour: Literal["RGB", "BGR"] = "RGB"
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    pad: int = 0
    size: tuple[int, int] | None = None
    why: str = ""
    assumed: bool = False


@dataclass(frozen=True, slots=True)
class Family:
    """A row of the table.

    Attributes:
        decoder: stable name; what the manifest says and the inference server implements.
        task: what its models answer.
        title: whose models these are.
        match: looks at the facts; None if they do not fit.
        roles: the outputs that the decoder reads, by role; a role ending in ``*`` stands for a numbered series.
        picture: how its models see a picture.
        defaults: settings of the decoder that the file never tells.
        options: further settings that an operator may give.

    """

    decoder: str
    task: Task
    title: str
    match: Callable[[Facts], Match | None]
    roles: tuple[str, ...]
    picture: Preparation = Preparation()
    defaults: dict[str, Any] = field(default_factory=dict)
    options: tuple[str, ...] = ()


def sizes(tensor: Tensor) -> tuple[int | None, ...]:
    """A tensor's shape with None for open sizes."""
    return tuple(size if isinstance(size, int) else None for size in tensor.shape)


def one(size: int | None) -> bool:
    """Whether a batch of one goes through a dimension."""
    return size in {1, None}


def unbatched(tensor: Tensor, rank: int) -> tuple[int | None, ...] | None:
    """The shape without its batch dimension, if it has ``rank`` dimensions and the first is a batch of one."""
    shape = sizes(tensor)
    return shape[1:] if shape and len(shape) == rank and one(shape[0]) else None


def find_picture(info: ModelInfo) -> tuple[Picture | None, str]:
    """The one input that can take a picture, and why it is it (or why there is none)."""
    found = [picture for tensor in info.inputs if (picture := _as_picture(info, tensor)) is not None]
    if len(found) != 1:
        return None, f"{len(found) or 'none'} of the {len(info.inputs)} inputs has the shape of a picture"
    picture = found[0]
    axis = "last" if picture.layout == "NHWC" else "second"
    return picture, f"input {picture.tensor.name!r} {list(picture.tensor.shape)}: channels stand {axis}"


_PICTURE_DTYPES = frozenset({"float32", "float16", "uint8", "int8"})
_SMALLEST = 16  # pixels a side; smaller things with three channels are not pictures


def _as_picture(info: ModelInfo, tensor: Tensor) -> Picture | None:
    shape = sizes(tensor)
    if len(shape) != 4 or not one(shape[0]) or tensor.dtype not in _PICTURE_DTYPES:
        return None
    orders: list[Literal["NHWC", "NCHW"]] = ["NHWC", "NCHW"] if info.format == "tflite" else ["NCHW", "NHWC"]
    for layout in orders:
        channels, height, width = (shape[1], shape[2], shape[3]) if layout == "NCHW" else (shape[3], shape[1], shape[2])
        if channels in {1, 3} and all(side is None or side >= _SMALLEST for side in (height, width)):
            return Picture(tensor, layout, channels, height, width)
    if shape[1:] == (None, None, None) and info.format == "onnx":
        return Picture(tensor, "NCHW", 3, None, None)  # everything left open: PyTorch's order
    return None
