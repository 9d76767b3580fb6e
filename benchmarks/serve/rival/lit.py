"""LitServe (Apache-2.0): one process for HTTP, workers with a model each; pictures in base64, as uploads do not reach its workers.

python lit.py MODEL PORT WORKERS
"""

import base64
import sys

import litserve
from pipeline import Detector


class Score(litserve.LitAPI):
    def setup(self, device):
        self.detector = Detector(sys.argv[1])

    def decode_request(self, request):
        return base64.b64decode(request["picture"])

    def predict(self, picture):
        return self.detector.answer(picture)

    def encode_response(self, output):
        return output


if __name__ == "__main__":
    server = litserve.LitServer(
        Score(api_path="/score"), accelerator="cpu", workers_per_device=int(sys.argv[3]), timeout=120
    )
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="warning")
