"""SIGKILL, EIO, ENOSPC and torn writes at every call to the kernel that changes the disk, in real processes: agent and hub, SQLite included."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.crash import stories

HERE = Path(__file__).parent
DEVICE = [make.__name__ for make in stories.ALL]
HUB = ["hub_first_start", "hub_at_work"]
SAMPLE = 2
"""Calls of each story, in each mode, in an ordinary run."""


@pytest.fixture(scope="session")
def shim(tmp_path_factory):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("a C compiler and Linux are needed to stand between a process and the kernel")
    library = tmp_path_factory.mktemp("shim") / "shim.so"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, HERE / "shim.c", "-ldl"], check=True)
    return library


def run(shim, story, share, folder):
    """The counts, and what was bad."""
    command = [sys.executable, "-c", "from tests.crash import process; process.main()", story, str(share), str(folder)]
    path = os.pathsep.join([str(HERE.parents[1]), str(HERE.parents[1] / "src"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "LD_PRELOAD": str(shim), "PYTHONPATH": path}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"{story}: {found['points']} faults at {found['calls']} calls × 4 modes, {len(found['bad'])} bad")
    return found


@pytest.mark.parametrize("story", ["update", "roll_back", "collecting_and_dropping", *HUB])
def test_a_fault_at_some_calls_of_a_process(shim, story, scratch):
    found = run(shim, story, SAMPLE, scratch)
    assert not found["bad"], "\n".join(found["bad"][:6])
    assert found["calls"] > 100 and found["points"] == 4 * SAMPLE


@pytest.mark.deep
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("story", [*DEVICE, *HUB])
def test_a_fault_at_every_call_of_a_process(shim, story, scratch):
    found = run(shim, story, 1 << 30, scratch)
    assert not found["bad"], "\n".join(found["bad"][:6])
    assert found["points"] == 4 * found["calls"]
