"""The kernel gives the same bits on x86-64 and arm64, and under every optimisation."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

KERNEL = Path(__file__).resolve().parents[2] / "src" / "farshore" / "delta"
PROBE = Path(__file__).parent / "arm64" / "probe.c"
SAFE = ["-std=gnu11", "-ffp-contract=off", "-fno-fast-math", f"-I{KERNEL}"]


def result(folder, compiler, *flags, run=()):
    binary = folder / f"probe-{compiler}{''.join(flags)}"
    subprocess.run([compiler, *SAFE, *flags, PROBE, "-o", binary, "-lm"], check=True)
    return subprocess.run([*run, binary], check=True, capture_output=True, text=True).stdout


@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")
def test_optimisation_changes_nothing(tmp_path):
    plain = result(tmp_path, "cc", "-O0")
    assert plain.endswith("wrong 0\n")
    assert result(tmp_path, "cc", "-O3") == plain


@pytest.mark.deep
@pytest.mark.skipif(
    platform.machine() != "x86_64" or not (shutil.which("aarch64-linux-gnu-gcc") and shutil.which("qemu-aarch64")),
    reason="needs an x86-64 machine with aarch64-linux-gnu-gcc and qemu-aarch64",
)
def test_arm64_gives_the_same_bits(tmp_path):
    here = result(tmp_path, "cc", "-O3")
    assert result(tmp_path, "aarch64-linux-gnu-gcc", "-O3", "-static", run=["qemu-aarch64"]) == here


@pytest.mark.deep
@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")
def test_sanitisers_find_nothing(tmp_path):
    flags = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    assert result(tmp_path, "cc", *flags).endswith("wrong 0\n")
