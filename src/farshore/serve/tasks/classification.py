"""Classification: ``classes`` with name and score, best first."""

from __future__ import annotations

from typing import Any

import numpy as np

from farshore.serve.prepare import Placement
from farshore.serve.tasks.subject import Outputs, Subject, Want


class Classification:
    """One output with a number for each class.

    Setting ``softmax`` says whether they are logits (true) or already scores (false, the default).
    """

    def __init__(self, subject: Subject) -> None:
        subject.roles("scores")
        self._subject = subject
        self._softmax = bool(subject.pipeline.settings.get("softmax", False))
        self._threshold = subject.number("threshold", 0.0)
        self._top = int(subject.number("top", 5))

    def __call__(self, outputs: Outputs, place: Placement, want: Want) -> dict[str, Any]:
        scores = outputs["scores"].reshape(-1).astype(np.float64)
        if self._softmax:
            powers = np.exp(scores - scores.max())
            scores = powers / powers.sum()
        least = self._threshold if want.threshold is None else want.threshold
        top = self._top if want.top is None else want.top
        best = np.argsort(-scores, kind="stable")[:top]
        return {
            "classes": [
                {"class": self._subject.label(int(i)), "score": round(float(scores[i]), 4)}
                for i in best
                if scores[i] >= least
            ]
        }
