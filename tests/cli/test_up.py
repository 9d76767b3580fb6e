"""The small world, left running and ended."""

import signal
import subprocess
import sys
import time

import pytest

from farshore.cli.world import answers, free_port


def test_up_tells_what_to_try_and_ends(farshore, tmp_path):
    port = free_port()
    text = farshore.ok("up", "--data", tmp_path / "up", "--port", port, "--seconds", "0.1")
    assert f"export FARSHORE_HUB=http://127.0.0.1:{port}" in text
    assert "farshore device list" in text
    assert not answers(port, "/healthz")
    # again in the same folder: it is emptied and used anew
    assert "The hub is at" in farshore.ok("up", "--data", tmp_path / "up", "--port", port, "--seconds", "0.1")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_however_it_is_told_to_end_nothing_stays_behind(tmp_path, number):
    port = free_port()
    arguments = [sys.executable, "-m", "farshore.cli", "up", "--data", str(tmp_path / "up"), "--port", str(port)]
    heard = signal.signal(
        number, signal.SIG_DFL
    )  # it is inherited, also where the suite was started deaf to it (nohup)
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    signal.signal(number, heard)
    try:
        while not answers(port, "/healthz"):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        process.send_signal(number)  # by somebody impatient
        _, said = process.communicate(timeout=60)
        assert process.returncode in (0, 130)
        assert b"Traceback" not in said
        assert not answers(port, "/healthz")
    finally:
        process.kill()
        process.communicate()
