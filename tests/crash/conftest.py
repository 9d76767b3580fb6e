from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

MEMORY = Path("/dev/shm")


@pytest.fixture
def scratch():
    """A folder for many short-lived files: in memory where the system has such a place."""
    folder = Path(tempfile.mkdtemp(prefix="farshore-crash-", dir=MEMORY if MEMORY.is_dir() else None))
    yield folder
    shutil.rmtree(folder)
