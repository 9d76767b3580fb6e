"""Memory as the system tells it."""

from __future__ import annotations

import os
import subprocess
import sys

from farshore.serve import memory


def test_a_process_that_takes_more_holds_more():
    script = "import sys; held = bytearray(%d); print('ready', flush=True); sys.stdin.read()"
    sizes = []
    for many in (1, 60 << 20):
        with subprocess.Popen(
            [sys.executable, "-c", script % many], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            sizes.append(memory.held(process.pid))
    assert 40 << 20 < sizes[1] - sizes[0] < 90 << 20


def test_what_is_gone_holds_nothing():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert memory.held(process.pid) == 0


def test_what_is_free_and_what_a_model_may_take():
    assert memory.held(os.getpid()) > 1 << 20
    assert memory.available() > 1 << 20
    assert memory.estimate(0) < memory.estimate(10 << 20) < memory.estimate(100 << 20)
