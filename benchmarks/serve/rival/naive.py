"""A server as tutorials and samples have it: Flask's own server, and the model read anew for every request.

python naive.py MODEL PORT
"""

import io
import sys

from flask import Flask, jsonify, request
from PIL import Image
from pipeline import Detector

app = Flask(__name__)


class Plain(Detector):
    """The runtime as it comes: no options."""

    def __init__(self, path: str) -> None:
        super().__init__(path, threads=0 if path.endswith(".onnx") else 1)


@app.post("/score")
def score():
    image = Image.open(io.BytesIO(request.get_data())).convert("RGB")
    return jsonify(Plain(sys.argv[1]).found(image, image.width, image.height))


app.run("127.0.0.1", int(sys.argv[2]), threaded=True)
