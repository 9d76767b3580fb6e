"""Image to image: ``picture``, a PNG in base64, of the part of the output that shows the picture sent."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

from farshore.core.errors import Invalid, Unavailable
from farshore.serve.prepare import Placement
from farshore.serve.tasks.segmentation import crop
from farshore.serve.tasks.subject import Outputs, Subject, Want


class ImageToImage:
    """One output of one or three channels. Settings: ``layout`` (HW, HWC, CHW), ``range`` (values of black and white)."""

    def __init__(self, subject: Subject) -> None:
        subject.roles("picture")
        settings = subject.pipeline.settings
        self._layout = str(settings.get("layout", "HWC"))
        black, white = settings.get("range", (0.0, 255.0))
        if not white > black:
            raise Invalid(f"the manifest's range of the picture is {black}, {white}; black must be below white")
        self._black, self._white = float(black), float(white)
        self._bgr = subject.pipeline.input is not None and subject.pipeline.input.colour == "BGR"

    def __call__(self, outputs: Outputs, place: Placement, want: Want) -> dict[str, Any]:
        found = outputs["picture"]
        if found.ndim < len(self._layout):
            raise Unavailable("the model's picture has fewer dimensions than its manifest says")
        found = found.reshape(found.shape[-len(self._layout) :])
        if self._layout == "CHW":
            found = found.transpose(1, 2, 0)
        found = crop(found, place)
        level = (found.astype(np.float32) - self._black) * (255.0 / (self._white - self._black))
        pixels = np.rint(np.nan_to_num(level)).clip(0, 255).astype(np.uint8)
        if pixels.ndim == 3 and pixels.shape[2] == 1:
            pixels = pixels[:, :, 0]
        if pixels.ndim == 3 and self._bgr:
            pixels = pixels[:, :, ::-1]
        out = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels)).save(out, "PNG", compress_level=1)
        data = base64.b64encode(out.getvalue()).decode()
        return {"picture": {"height": pixels.shape[0], "width": pixels.shape[1], "png": data}}
