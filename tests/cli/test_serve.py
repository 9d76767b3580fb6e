"""``farshore serve`` as a process of its own."""

import pytest

from farshore.cli import world as worlds
from farshore.cli.load import score
from farshore.cli.world import READY, Process, answers, free_port, wait_for


def test_one_model_can_be_tried_without_agent_and_hub(tmp_path):
    port = free_port()
    (tmp_path / "m").mkdir()
    for name in ("detector.onnx", "labels.txt"):
        (tmp_path / "m" / name).write_bytes((worlds.assets() / "v2" / name).read_bytes())
    process = Process(["serve", "--model", str(tmp_path / "m"), "--port", str(port)], tmp_path / "log")
    process.start()
    try:
        wait_for(lambda: answers(port, "/readyz"), READY, "the server", process)
        status, told = score(port, (worlds.assets() / "pictures" / "scene-1.jpg").read_bytes())
        assert status == 200
        assert {"ship", "buoy"} <= {found["class"] for found in told["detections"]}
    finally:
        process.stop()


@pytest.mark.parametrize("arguments", [(), ("--root", "a", "--model", "b")])
def test_a_folder_or_a_model_but_not_both(farshore, arguments):
    status, _, err = farshore("serve", *arguments, FARSHORE_ROOT=None)
    assert status == 2
    assert "--root" in err
    assert "--model" in err


def test_a_memory_that_is_no_size_is_told(farshore, tmp_path):
    status, _, err = farshore("serve", "--root", str(tmp_path), "--memory", "plenty")
    assert status == 2
    assert "500MB" in err
