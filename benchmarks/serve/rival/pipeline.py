"""What every rival runs on a picture: decode, resize, infer, read. Written from the models' own descriptions, with the fast libraries
that a careful developer would take, and nothing of Farshore in it.

    python pipeline.py MODEL PICTURE     the bare runtime: answers once, says so, and stays until its input is closed
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

THRESHOLD = 0.4
OVERLAP = 0.5


class Detector:
    """A model in memory.

    Args:
        path: `ssd.tflite`, `yolox.onnx`, `face.onnx` or `tiny.onnx`: SSD MobileNet, YOLOX-nano, Ultra-Light face, Tiny YOLOv3.
        threads: of the runtime.

    """

    def __init__(self, path: str, threads: int = 1) -> None:
        self.kind = Path(path).stem
        self.width, self.height = {"ssd": (300, 300), "face": (320, 240)}.get(self.kind, (416, 416))
        if self.kind == "ssd":
            from ai_edge_litert.interpreter import Interpreter

            self.runtime = Interpreter(path, num_threads=threads)
            self.runtime.allocate_tensors()
        else:
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            options.log_severity_level = 3
            self.runtime = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def answer(self, data: bytes) -> dict:
        """What is in a JPEG, boxes as top, left, bottom, right in pixels."""
        import simplejpeg

        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
        pixels = simplejpeg.decode_jpeg(data, "RGB", min_height=self.height, min_width=self.width)
        return self.found(Image.fromarray(pixels), width, height)

    def found(self, image: Image.Image, width: int, height: int) -> dict:
        """What is in a decoded picture; ``width`` and ``height`` are the sent one's."""
        boxes, scores, classes = getattr(self, f"_{self.kind}")(image, width, height)
        return {
            "detections": [
                {"class": int(c), "score": round(float(s), 4), "box": [round(float(v), 1) for v in b]}
                for b, s, c in zip(boxes, scores, classes, strict=True)
            ]
        }

    def _ssd(self, image, width, height):
        tensor = np.asarray(image.resize((300, 300), Image.Resampling.BILINEAR))[None]
        self.runtime.set_tensor(self.runtime.get_input_details()[0]["index"], tensor)
        self.runtime.invoke()
        boxes, classes, scores, count = (
            self.runtime.get_tensor(o["index"])[0] for o in self.runtime.get_output_details()
        )
        keep = (np.arange(len(scores)) < count) & (scores >= THRESHOLD)
        return boxes[keep] * (height, width, height, width), scores[keep], classes[keep]

    def _yolox(self, image, width, height):
        scale = min(416 / width, 416 / height)
        across, down = round(width * scale), round(height * scale)
        frame = np.full((416, 416, 3), 114, np.float32)
        frame[:down, :across] = np.asarray(image.resize((across, down), Image.Resampling.BILINEAR))[:, :, ::-1]
        (rows,) = self.runtime.run(
            None, {self.runtime.get_inputs()[0].name: np.ascontiguousarray(frame.transpose(2, 0, 1)[None])}
        )
        rows = rows[0]
        grids, strides = [], []
        for stride in (8, 16, 32):
            y, x = np.mgrid[: 416 // stride, : 416 // stride]
            grids.append(np.stack((x.ravel(), y.ravel()), 1))
            strides.append(np.full(x.size, stride))
        grid, stride = np.concatenate(grids), np.concatenate(strides)[:, None]
        centre, half = (rows[:, :2] + grid) * stride, np.exp(rows[:, 2:4]) * stride / 2
        scores = rows[:, 4:5] * rows[:, 5:]
        boxes = np.concatenate((centre - half, centre + half), 1)[:, [1, 0, 3, 2]] / scale
        return _best(boxes, scores.max(1), scores.argmax(1), height, width)

    def _tiny(self, image, width, height):
        scale = min(416 / width, 416 / height)
        across, down = round(width * scale), round(height * scale)
        frame = np.full((416, 416, 3), 128 / 255, np.float32)
        top, left = (416 - down) // 2, (416 - across) // 2
        inside = np.asarray(image.resize((across, down), Image.Resampling.BILINEAR), np.float32) / 255
        frame[top : top + down, left : left + across] = inside
        fed = {
            "input_1": np.ascontiguousarray(frame.transpose(2, 0, 1)[None]),
            "image_shape": np.array([[height, width]], np.float32),
        }
        boxes, scores, chosen = self.runtime.run(None, fed)
        _, classes, places = chosen.reshape(-1, 3).T
        return boxes[0][places], scores[0][classes, places], classes

    def _face(self, image, width, height):
        tensor = (np.asarray(image.resize((320, 240), Image.Resampling.BILINEAR), np.float32) - 127) / 128
        scores, boxes = self.runtime.run(None, {self.runtime.get_inputs()[0].name: tensor.transpose(2, 0, 1)[None]})
        return _best(
            boxes[0][:, [1, 0, 3, 2]] * (height, width, height, width),
            scores[0][:, 1],
            np.zeros(len(boxes[0])),
            height,
            width,
        )


def _best(boxes, scores, classes, height, width):
    """Above the threshold, greedily without overlaps in a class, cut at the edges."""
    keep = scores >= THRESHOLD
    boxes, scores, classes = boxes[keep], scores[keep], classes[keep]
    boxes = np.clip(boxes, 0, (height, width, height, width))
    left = list(np.argsort(-scores))
    taken = []
    while left:
        first = left.pop(0)
        taken.append(first)
        left = [
            each for each in left if classes[each] != classes[first] or _overlap(boxes[first], boxes[each]) < OVERLAP
        ]
    return boxes[taken], scores[taken], classes[taken]


def _overlap(a, b):
    high, wide = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(0.0, high) * max(0.0, wide)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


if __name__ == "__main__":
    print(json.dumps(Detector(sys.argv[1]).answer(Path(sys.argv[2]).read_bytes())), flush=True)
    sys.stdin.read()
