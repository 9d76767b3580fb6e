"""MLServer (Apache-2.0): one process for HTTP, parallel workers with a model each; pictures in base64, as its protocol has it.

MODEL=… mlserver start FOLDER     with settings.json and model-settings.json there
"""

import base64
import json
import os

from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput
from pipeline import Detector


class Score(MLModel):
    async def load(self) -> bool:
        self.detector = Detector(os.environ["MODEL"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        told = self.detector.answer(base64.b64decode(payload.inputs[0].data[0]))
        found = ResponseOutput(name="found", shape=[1], datatype="BYTES", data=[json.dumps(told)])
        return InferenceResponse(model_name=self.name, outputs=[found])
