"""Power cuts on ext4, XFS and btrfs themselves, as they order and lose writes today."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.crash.filesystems import KINDS

HERE = Path(__file__).parent
POINTS = 40
STORIES = ("update", "interrupted_download", "collecting_and_dropping", "hub_at_work")

pytestmark = [pytest.mark.deep, pytest.mark.timeout(3600), pytest.mark.xdist_group("mounts")]


def run(kind, story, points, folder, *more):
    command = [
        sys.executable,
        "-c",
        "from tests.crash import filesystems; filesystems.main()",
        kind,
        story,
        str(points),
    ]
    path = os.pathsep.join([str(HERE.parents[1]), str(HERE.parents[1] / "src"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*command, str(folder), *more],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    if "cannot" in found:
        pytest.skip(f"no power cuts on {kind}: {found['cannot']}")
    print(
        f"{kind}, {story}{', '.join(('', *more))}: {found['points']} cuts in {found['seconds']:.2f} s, {len(found['bad'])} bad"
    )
    return found["bad"]


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_power_cut_on_a_real_file_system(kind, story, scratch):
    bad = run(kind, story, POINTS, scratch)
    assert not bad, "\n".join(bad[:6])


def test_fsyncs_left_out_would_be_noticed(scratch):
    assert run("xfs", "update", POINTS, scratch, "without-fsync")
