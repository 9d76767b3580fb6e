"""Decoders, asked as the worker asks them."""

from __future__ import annotations

import numpy as np
import pytest

from farshore.core.manifest import PictureInput, Pipeline
from farshore.serve import prepare, tasks
from farshore.serve.tasks.subject import Subject, Want


class Asked:
    """A decoder with its model's input."""

    def __init__(self, task, name, size, roles, labels, settings, resize):
        self._spec = PictureInput("x", "NCHW", size[1], size[0], resize)
        pipeline = Pipeline(task, name, self._spec, {role: role for role in roles}, None, settings)
        self._decoder = tasks.decoder(Subject(pipeline, (), (), labels))

    def __call__(self, outputs, picture, **want):
        arrays = {
            role: np.asarray(value, np.float32) if not isinstance(value, np.ndarray) else value
            for role, value in outputs.items()
        }
        return self._decoder(arrays, prepare.place(self._spec, picture), Want(**want))


@pytest.fixture
def ask():
    def make(
        name, outputs, *, picture, size=(64, 64), task="detection", labels=(), resize="stretch", settings=None, **want
    ):
        return Asked(task, name, size, outputs, labels, settings or {}, resize)(outputs, picture, **want)

    return make
