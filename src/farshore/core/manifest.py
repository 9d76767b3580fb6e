"""The manifest: canonical JSON that says all about one version.

The registry writes it when a version is pushed, signs it (see :mod:`farshore.core.trust`), and devices believe nothing
else about a version. Format: ``docs/formats/manifest.md``.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from farshore.core import digest as digests
from farshore.core import documents
from farshore.core.digest import Digest
from farshore.core.errors import Invalid

FORMAT = "farshore.manifest/1"
MAX_MANIFEST = 1 << 20
MAX_FILE = 1 << 40

Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}\Z")]
DigestText = Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")]
Runtime = Literal["onnxruntime", "litert"]
Task = Literal["detection", "classification", "keypoints", "segmentation", "image-to-image", "tensors"]
Short = Annotated[str, Meta(max_length=512)]
Count = Annotated[int, Meta(ge=0, le=1 << 53)]

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}\Z")
_PATH = re.compile(r"[^\x00-\x1f\x7f/\\]{1,255}\Z")


class File(Struct, frozen=True, omit_defaults=True):
    """A name inside a variant and the digest of its bytes.

    Attributes:
        path: plain file name, no folders (ONNX external data is found beside the model by such a name).
        digest: of the bytes.
        size: in bytes.
        role: ``model`` (what the runtime opens), ``external`` (ONNX external data), ``labels``, ``picture`` (an
            acceptance case's input) or ``other`` (came with the push, kept for ``pull``).

    """

    path: str
    digest: DigestText
    size: Annotated[int, Meta(ge=0, le=MAX_FILE)]
    role: Literal["model", "external", "labels", "picture", "other"] = "model"


class Tensor(Struct, frozen=True, omit_defaults=True):
    """An input or output of the model file.

    Attributes:
        name: in the file.
        dtype: numpy's name: ``float32``, ``uint8`` …
        shape: sizes; a symbol's name or ``"?"`` where the file leaves a size open.
        scale: of a quantised tensor: real = scale × (stored − zero_point).
        zero_point: see ``scale``.

    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    scale: float | None = None
    zero_point: int | None = None


class PictureInput(Struct, frozen=True, omit_defaults=True):
    """How a picture becomes the model's input tensor.

    The picture (H×W×3, uint8, RGB, upright by EXIF) is resized to ``height``×``width``, its channels put in ``colour``
    order, normalised as (value − mean) / std in float, or passed as it is for integer inputs, and laid out as ``layout``.

    Attributes:
        tensor: name of the input it is fed to.
        layout: ``NHWC`` or ``NCHW``.
        width: pixels; ``height`` likewise.
        resize: ``stretch`` (aspect not kept), ``letterbox`` (aspect kept, centred, rest filled with ``pad``) or
            ``letterbox-corner`` (aspect kept, top left, rest filled).
        filter: how pixels are blended: ``linear`` (the two neighbours, as OpenCV and TensorFlow do by default) or
            ``antialias`` (all pixels that fall into one, as Pillow and torchvision do).
        colour: channel order of the tensor.
        mean: one number for each channel in ``colour`` order, in units of 0…255.
        std: likewise.
        pad: fill value, 0…255, before normalisation.

    """

    tensor: str
    layout: Literal["NHWC", "NCHW"]
    width: Annotated[int, Meta(ge=1, le=16384)]
    height: Annotated[int, Meta(ge=1, le=16384)]
    resize: Literal["stretch", "letterbox", "letterbox-corner"] = "stretch"
    filter: Literal["linear", "antialias"] = "linear"
    colour: Literal["RGB", "BGR", "GRAY"] = "RGB"
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    pad: Annotated[int, Meta(ge=0, le=255)] = 0


class Labels(Struct, frozen=True, omit_defaults=True):
    """Where class names stand: class ``i`` is line ``i + skip`` of the file ``path`` (UTF-8, one name a line)."""

    path: str
    skip: Annotated[int, Meta(ge=0, le=1000)] = 0


class Pipeline(Struct, frozen=True, omit_defaults=True):
    """From picture to answer: everything the inference server must know so that it never guesses.

    Attributes:
        task: the question the model answers.
        decoder: which decoder reads the outputs, a name from ``docs/formats/recognition.md``.
        input: how a picture is fed; None for models that take tensors only.
        outputs: role → output tensor's name, as the decoder names its roles.
        labels: class names, if any.
        settings: the decoder's own settings, e.g. ``threshold``, ``iou``, ``anchors``.

    """

    task: Task
    decoder: str
    input: PictureInput | None = None
    outputs: dict[str, str] = {}
    labels: Labels | None = None
    settings: dict[str, Any] = {}


class Requirements(Struct, frozen=True, omit_defaults=True):
    """What a device needs to run a variant; empty means any device with the runtime.

    Attributes:
        memory: bytes of RAM.
        architectures: ``platform.machine()`` names that fit, e.g. ``x86_64``, ``aarch64``; empty fits all.

    """

    memory: Count = 0
    architectures: tuple[Short, ...] = ()


class Variant(Struct, frozen=True, omit_defaults=True):
    """One runnable form of a version: runtime × precision × requirements."""

    name: Name
    runtime: Runtime
    precision: Short
    files: tuple[File, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    pipeline: Pipeline
    requires: Requirements = Requirements()

    @property
    def model(self) -> File:
        """The file that the runtime opens."""
        return next(file for file in self.files if file.role == "model")


class AcceptanceCase(Struct, frozen=True, omit_defaults=True):
    """An input with its expected answer, answered by a candidate before it gets any traffic.

    Attributes:
        name: for messages.
        picture: the input; its bytes are fetched like any other file's.
        expect: the members of ``/score``'s answer that must be there, e.g. ``{"detections": [{class, score, box}]}``.
        score: largest difference of a score that passes.
        iou: smallest overlap (intersection over union) of an expected box with its answer that passes.

    """

    name: Short
    picture: File
    expect: dict[str, Any]
    score: Annotated[float, Meta(ge=0, le=1)] = 0.1
    iou: Annotated[float, Meta(ge=0, le=1)] = 0.5


class Content(Struct, frozen=True, omit_defaults=True):
    """What a version *is*, apart from its name and number: equal contents make no new version."""

    variants: Annotated[tuple[Variant, ...], Meta(min_length=1, max_length=64)]
    acceptance: Annotated[tuple[AcceptanceCase, ...], Meta(max_length=256)] = ()


class Manifest(Struct, frozen=True, omit_defaults=True, tag_field="format", tag=FORMAT):
    """All about one version; its canonical bytes are what is signed, and their digest names the version."""

    model: Name
    version: Annotated[int, Meta(ge=1, le=1 << 31)]
    content: Content

    def files(self) -> dict[Digest, File]:
        """Every distinct file of all variants and acceptance cases, by digest."""
        every = [file for variant in self.content.variants for file in variant.files]
        every += [case.picture for case in self.content.acceptance]
        return {Digest(file.digest): file for file in every}

    def needed(self, variant: Variant) -> dict[Digest, File]:
        """The files a device needs that runs ``variant``: its own and the acceptance pictures."""
        every = [file for file in variant.files if file.role != "other"]
        every += [case.picture for case in self.content.acceptance]
        return {Digest(file.digest): file for file in every}


def encode(manifest: Manifest) -> bytes:
    """Canonical bytes of ``manifest``.

    Raises:
        Invalid: it breaks a rule that :func:`decode` holds.

    """
    data = documents.canonical(manifest)
    decode(data)
    return data


def decode(data: bytes) -> Manifest:
    """Parse and check a manifest.

    Raises:
        Invalid: malformed, or a rule broken: plain file names, one model file a variant, names unique, references met.
        TooLarge: over ``MAX_MANIFEST`` bytes.

    """
    manifest = documents.decode(data, Manifest, what="manifest", limit=MAX_MANIFEST)
    _check(manifest)
    return manifest


def content_digest(content: Content) -> Digest:
    """Names what a version is, whatever its number: equal for pushes of equal files read in the same way."""
    return digests.of(documents.canonical(content))


def check_name(name: str) -> str:
    """Return ``name`` if it is a model's or device's slug.

    Raises:
        Invalid: it is not; the message states the rule.

    """
    if not _NAME.match(name):
        raise Invalid(
            f"bad name {name[:80]!r}: use lower-case letters, digits, '.', '_', '-', starting with a letter or digit, at most 63"
        )
    return name


def check_path(path: str) -> str:
    """Return ``path`` if it is a plain file name (Unicode allowed) that is safe on a device.

    Raises:
        Invalid: empty, with a folder, a control character, over 255 bytes, or ``.``/``..``/hidden.

    """
    if not _PATH.match(path) or path.startswith(".") or len(path.encode("utf-8", "surrogatepass")) > 255:
        raise Invalid(f"bad file name {path[:80]!r}: a plain name without folders is needed")
    return path


def choose_variant(manifest: Manifest, runtimes: tuple[str, ...], memory: int, machine: str) -> Variant | None:
    """The first variant that fits a device, or None.

    Args:
        manifest: the version.
        runtimes: runtimes installed there.
        memory: bytes of RAM there.
        machine: its architecture.

    """
    for variant in manifest.content.variants:
        needs = variant.requires
        if (
            variant.runtime in runtimes
            and needs.memory <= memory
            and (not needs.architectures or machine in needs.architectures)
        ):
            return variant
    return None


def _check(manifest: Manifest) -> None:
    names = [variant.name for variant in manifest.content.variants]
    _unique(names, "variant name")
    for variant in manifest.content.variants:
        paths = [check_path(file.path) for file in variant.files]
        _unique(paths, f"file name in variant {variant.name}")
        if sum(file.role == "model" for file in variant.files) != 1:
            raise Invalid(f"manifest: variant {variant.name} needs exactly one file of role 'model'")
        labels = variant.pipeline.labels
        if labels is not None and labels.path not in paths:
            raise Invalid(
                f"manifest: variant {variant.name} names labels {labels.path!r}, which is not among its files"
            )
    for case in manifest.content.acceptance:
        check_path(case.picture.path)
    _unique([case.name for case in manifest.content.acceptance], "acceptance case")
    sizes: dict[str, int] = {}
    for variant in manifest.content.variants:
        for file in (*variant.files, *(case.picture for case in manifest.content.acceptance)):
            if sizes.setdefault(file.digest, file.size) != file.size:
                raise Invalid(f"manifest: {file.digest} is given two sizes")


def _unique(names: list[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise Invalid(f"manifest: {what} {name!r} stands twice")
        seen.add(name)
