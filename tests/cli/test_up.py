"""The small world, left running and ended."""

from farshore.cli.world import answers, free_port


def test_up_tells_what_to_try_and_ends(farshore, tmp_path):
    port = free_port()
    text = farshore.ok("up", "--data", tmp_path / "up", "--port", port, "--seconds", "0.1")
    assert f"export FARSHORE_HUB=http://127.0.0.1:{port}" in text
    assert "farshore device list" in text
    assert not answers(port, "/healthz")
    # again in the same folder: it is emptied and used anew
    assert "The hub is at" in farshore.ok("up", "--data", tmp_path / "up", "--port", port, "--seconds", "0.1")
