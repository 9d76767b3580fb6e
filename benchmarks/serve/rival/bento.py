"""BentoML (Apache-2.0): worker processes that each speak HTTP and hold a model.

MODEL=… WORKERS=2 bentoml serve bento:Score --port PORT
"""

import os
from pathlib import Path

import bentoml
from pipeline import Detector


@bentoml.service(workers=int(os.environ["WORKERS"]), traffic={"timeout": 120})
class Score:
    def __init__(self) -> None:
        self.detector = Detector(os.environ["MODEL"])

    @bentoml.api(route="/score")
    def score(self, picture: Path) -> dict:
        return self.detector.answer(picture.read_bytes())
