"""Processes of the small world: started, watched, ended."""

import socket

import pytest

from farshore.cli import world as worlds
from farshore.cli.world import Process, World, answers, wait_for
from farshore.core.errors import Unavailable


def test_a_process_that_ends_early_is_told_with_its_last_words(tmp_path):
    process = Process(["hub", "--data", str(tmp_path / "d"), "--port", "99999"], tmp_path / "log")
    process.start()
    with pytest.raises(Unavailable, match=r"(?s)ended with status 2.*99999"):
        wait_for(lambda: False, 20, "the hub", process)
    process.stop()


def test_waiting_ends(tmp_path):
    with pytest.raises(Unavailable, match="the moon: not so within"):
        wait_for(lambda: False, 0.1, "the moon")


def test_a_taken_port_is_said_at_once(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        world = World(tmp_path, rate=1, port=taken.getsockname()[1])
        with pytest.raises(Unavailable, match="in use"):
            world.start_hub()


def test_everything_ends_with_the_world(tmp_path):
    with World(tmp_path, rate=1e6) as world:
        world.start_hub()
        assert answers(world.port, "/healthz")
        assert world.hub.models() is not None
        port = world.port
    assert not answers(port, "/healthz")
    assert world.hub_process.ended() is not None


def test_what_comes_along_is_there():
    assert {path.name for path in worlds.assets().iterdir()} >= {"v1", "v2", "v3", "pictures"}
