"""A version in a worker's memory: bytes of a picture or of tensors in, bytes of the answer out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from farshore.core.control import CaseResult
from farshore.core.digest import Digest
from farshore.core.errors import Corrupt, FarshoreError, Invalid, Unavailable
from farshore.core.manifest import AcceptanceCase, PictureInput, Pipeline, Tensor, Variant
from farshore.core.sketch import Findings
from farshore.serve import agreement, engine, memory, pictures, prepare, probe, tasks, tuning
from farshore.serve.frames import Drawing
from farshore.serve.oip import tensors
from farshore.serve.prepare import Placement, Preparer
from farshore.serve.tasks.subject import Subject, Want
from farshore.store.slots import Installed, Slots

Stages = tuple[float, float, float]
"""Milliseconds of decoding (with resizing), inference, and reading the outputs."""

MAX_LABELS = 1 << 20
_encoder = msgspec.json.Encoder()


class LoadedVersion:
    """A version that answers. Threads may call it together.

    Args:
        root: the device's root folder.
        model: name.
        digest: of the manifest.
        threads: requests that will run at once, and cores that a lone one may use; unless ``tuned`` tells better.
        max_pixels: pixels of the largest picture.
        crowded: several requests are expected at once from the start.
        tuned: follow what :mod:`farshore.serve.tuning` found out on this machine, if it did.

    Attributes:
        width: requests that will run at once.
        blank: an input of nothing, to run it with; None if nothing is known of what it may be fed.

    Raises:
        NotFound: it is not installed.
        Corrupt: its files are not what the manifest says.
        Invalid: the runtime or the decoder refuses it.
        Unavailable: its runtime is missing, or memory ran out.

    """

    def __init__(
        self,
        root: Path,
        model: str,
        digest: Digest,
        threads: int,
        max_pixels: int,
        *,
        crowded: bool = False,
        tuned: bool = True,
    ) -> None:
        slots = Slots(root)
        self._installed = slots.find(model, digest)
        slots.verify(self._installed)
        self._cases = slots.manifest(self._installed).content.acceptance
        variant = slots.variant(self._installed)
        pipeline = variant.pipeline
        self._max_pixels = max_pixels
        self._tensors = {tensor.name: tensor for tensor in (*variant.inputs, *variant.outputs)}
        self._inputs = {tensor.name: tensor for tensor in variant.inputs}
        self._outputs = tuple(tensor.name for tensor in variant.outputs)
        spec = pipeline.input
        self._preparer = None if spec is None else Preparer(spec, self._tensor(spec.tensor))
        self._spec = spec
        self._size_input = None if spec is None else _size_input(spec, pipeline, variant)
        self._wide_first = pipeline.settings.get("image_shape_order") == "wh"
        self._roles = pipeline.outputs or {tensor.name: tensor.name for tensor in variant.outputs}
        for name in self._roles.values():
            self._tensor(name)
        self._decoder = tasks.decoder(
            Subject(pipeline, variant.inputs, variant.outputs, _labels(self._installed, variant))
        )
        path = self._installed.file(variant.model.path)
        found = tuning.read(self._installed, variant.runtime) if tuned else None
        lone, self.width = (threads, threads) if found is None else (found[0].lone, found[0].width)
        optimised = None if found is None else found[1]
        self._engine = engine.load(
            variant.runtime, path, lone=lone, width=self.width, crowded=crowded, optimised=optimised
        )
        self._name = {"model": model, "version": self._installed.version, "digest": digest}
        self._source = (model, self._installed.version)
        self._warm()

    def answer(self, data: bytes, want: Want, *, alone: bool, draw: Drawing | None = None) -> tuple[bytes, Stages]:
        """Answer one picture with ``/score``'s JSON, or with the picture and what was found in it.

        Args:
            data: the picture's file.
            want: the request's wishes.
            alone: no other request runs now.
            draw: how the picture is to be encoded; None for JSON.

        Raises:
            Invalid: the picture is bad.
            Unavailable: the runtime failed.

        """
        members, stages = self._answer(data, want, alone)
        if draw is not None:
            from farshore.serve.draw import drawn  # noqa: PLC0415 - few ask for it

            return drawn(pictures.decode(data, pictures.read_head(data, self._max_pixels)), members, draw), stages
        decode, infer, rest = stages
        timing = {"decode_ms": round(decode, 2), "infer_ms": round(infer, 2), "read_ms": round(rest, 2)}
        return _encoder.encode({**self._name, **members, "timing": timing}), stages

    def compare(self, data: bytes, told: bytes, want: Want) -> tuple[float | None, Findings, Findings]:
        """Answer one picture for nobody, and compare.

        Args:
            data: the picture's file.
            told: another version's answer to it, ``/score``'s JSON.
            want: the request's wishes.

        Returns:
            How far both say the same, 0 to 1 (None if they cannot be compared), and what was found in either.

        Raises:
            Invalid: the picture is bad.
            Unavailable: the runtime failed.

        """
        before, after = msgspec.json.decode(told), self._answer(data, want, alone=False)[0]
        return agreement.agreement(before, after), agreement.findings(before), agreement.findings(after)

    def infer(self, body: bytes, head: int | None, *, alone: bool) -> tuple[bytes, Stages, int | None]:
        """Run the model on given tensors.

        Args:
            body: a request of the Open Inference Protocol.
            head: bytes of JSON before binary tensors; None if all is JSON.
            alone: no other request runs now.

        Returns:
            The answer, the stages, and the bytes of JSON before the answer's binary tensors (None if all is JSON).

        Raises:
            Invalid: the request is bad, or the model fails on these tensors.
            Unavailable: memory ran out.

        """
        start = time.perf_counter()
        request, feeds = tensors.read(body, head, self._inputs)
        tensors.check_wishes(request, self._outputs)
        decoded = time.perf_counter()
        try:
            found = self._engine.run(feeds, alone=alone)
        except Unavailable as error:
            if "alloc" in error.message:
                raise
            raise Invalid(f"the model fails on these tensors: {error.message}") from None
        inferred = time.perf_counter()
        answer, length = tensors.tell(request, found, self._outputs, self._source)
        end = time.perf_counter()
        return answer, (1e3 * (decoded - start), 1e3 * (inferred - decoded), 1e3 * (end - inferred)), length

    def check(self) -> tuple[CaseResult, ...]:
        """Answer every acceptance case and compare."""
        return tuple(self._check(case) for case in self._cases)

    def _check(self, case: AcceptanceCase) -> CaseResult:
        try:
            data = self._installed.case(case.picture.path).read_bytes()
            why = probe.missed(case, self._answer(data, Want(), alone=True)[0])
        except OSError as error:
            why = f"its picture cannot be read: {error.strerror}"
        except FarshoreError as error:
            why = error.message
        except Exception as error:  # noqa: BLE001 - an expectation of another form, or what a library makes of a strange picture
            why = f"it cannot be judged ({type(error).__name__}: {error})"
        return CaseResult(case.name, not why, why[:512])

    def _answer(self, data: bytes, want: Want, alone: bool) -> tuple[dict[str, Any], Stages]:
        start = time.perf_counter()
        spec, preparer = self._spec, self._preparer
        if spec is None or preparer is None:
            raise Invalid(
                f"{self._name['model']} takes tensors, no pictures: ask at /v2/models/{self._name['model']}/infer"
            )
        inner, place = self._seen(data, spec, preparer)
        feeds = self._feeds(spec.tensor, preparer.tensor(inner, place), place)
        decoded = time.perf_counter()
        outputs = self._engine.run(feeds, alone=alone)
        inferred = time.perf_counter()
        members = self._decoder(self._by_role(outputs), place, want)
        end = time.perf_counter()
        return members, (1e3 * (decoded - start), 1e3 * (inferred - decoded), 1e3 * (end - inferred))

    def _seen(self, data: bytes, spec: PictureInput, preparer: Preparer) -> tuple[NDArray[np.uint8], Placement]:
        """The picture as the model sees it, and where it lies. What was decoded, megabytes, is gone when this returns."""
        head = pictures.read_head(data, self._max_pixels)
        pixels = pictures.decode(data, head, _least(spec, head.upright))
        # A PNG tells its orientation only when it is opened; then its sides change places.
        size = head.upright if head.kind == "JPEG" else (pixels.shape[0], pixels.shape[1])
        place = prepare.place(spec, size)
        return preparer.resized(pixels, place), place

    def _feeds(self, name: str, tensor: NDArray[Any], place: Placement) -> dict[str, NDArray[Any]]:
        feeds = {name: tensor}
        if self._size_input is not None:
            height, width = place.picture
            size = (width, height) if self._wide_first else (height, width)
            feeds[self._size_input.name] = np.array([size], np.dtype(self._size_input.dtype))
        return feeds

    def _by_role(self, outputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Outputs by role; quantised ones as the real numbers that they stand for."""
        found = {}
        for role, name in self._roles.items():
            array, tensor = outputs[name], self._tensors[name]
            if tensor.scale is not None and array.dtype.kind in "iu":
                array = (array.astype(np.float32) - (tensor.zero_point or 0)) * np.float32(tensor.scale)
            found[role] = array
        return found

    def _tensor(self, name: str) -> Tensor:
        if name not in self._tensors:
            raise Invalid(f"the manifest speaks of a tensor {name!r} that the model does not have")
        return self._tensors[name]

    @property
    def model(self) -> engine.Model:
        """What contexts are made of."""
        return self._engine.model

    @property
    def blank(self) -> dict[str, NDArray[Any]] | None:
        spec, preparer = self._spec, self._preparer
        if spec is None or preparer is None:
            return None
        place = prepare.place(spec, (spec.height, spec.width))
        inner = preparer.resized(np.zeros((place.height, place.width, 4), np.uint8), place)
        return self._feeds(spec.tensor, preparer.tensor(inner, place), place)

    def _warm(self) -> None:
        """Run once, so that the first request does not pay for what is made on first use."""
        feeds = self.blank
        if feeds is None:
            return
        outputs = self._engine.warm(feeds)
        memory.give_back()
        missing = [name for name in self._roles.values() if name not in outputs]
        if missing:
            raise Corrupt(f"the model has no output {missing[0]!r}, which its manifest speaks of")


def _least(spec: PictureInput, size: tuple[int, int]) -> tuple[int, int]:
    """How large a JPEG has to be decoded so that resizing still only makes it smaller."""
    place = prepare.place(spec, size)
    return (place.height, place.width)


def _size_input(spec: PictureInput, pipeline: Pipeline, variant: Variant) -> Tensor | None:
    """The input that takes the picture's size, which the decoder's setting ``image_shape`` names."""
    name = pipeline.settings.get("image_shape")
    others = [tensor for tensor in variant.inputs if tensor.name not in {spec.tensor, name}]
    if others:
        raise Invalid(f"the model has inputs that nothing can be fed to: {', '.join(tensor.name for tensor in others)}")
    if name is None:
        return None
    found = [tensor for tensor in variant.inputs if tensor.name == name]
    if not found:
        raise Invalid(f"the manifest's image_shape is {name!r}, which is no input of the model")
    return found[0]


def _labels(installed: Installed, variant: Variant) -> tuple[str, ...]:
    """Class names: class ``i`` is line ``i + skip``."""
    labels = variant.pipeline.labels
    if labels is None:
        return ()
    path = installed.file(labels.path)
    if path.stat().st_size > MAX_LABELS:
        raise Invalid(f"{labels.path} is too large for a list of labels: at most {MAX_LABELS} bytes are read")
    lines = path.read_bytes().decode("utf-8-sig", "replace").split("\n")
    return tuple(line.strip() for line in lines)[labels.skip :]
