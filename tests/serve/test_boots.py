"""The server waits for the agent to count a start of the machine, and not for ever."""

import asyncio

import pytest

from farshore.core.control import COUNTED
from farshore.serve import boots


@pytest.fixture
def boot(tmp_path):
    (tmp_path / "boot_id").write_text("this-one\n")
    return tmp_path / "boot_id"


def noted(root, text):
    (root / COUNTED).parent.mkdir(exist_ok=True)
    (root / COUNTED).write_text(text)


def test_where_no_agent_ever_ran_nothing_is_waited_for(tmp_path, boot):
    assert asyncio.run(boots.counted(tmp_path, 1e9, boot))


def test_a_start_that_is_counted_is_not_waited_for(tmp_path, boot):
    noted(tmp_path, "this-one")
    assert asyncio.run(boots.counted(tmp_path, 1e9, boot))


def test_where_the_system_names_no_starts_nothing_is_waited_for(tmp_path):
    noted(tmp_path, "")
    assert asyncio.run(boots.counted(tmp_path, 1e9, tmp_path / "not there"))


def test_the_agent_goes_first(tmp_path, boot):
    noted(tmp_path, "the one before")

    async def both():
        waiting = asyncio.create_task(boots.counted(tmp_path, 1e9, boot))
        await asyncio.sleep(4 * boots.LOOK_EVERY)
        assert not waiting.done()
        noted(tmp_path, "this-one")
        return await waiting

    assert asyncio.run(both())


def test_an_agent_that_does_not_come_is_not_waited_for_any_longer(tmp_path, boot, caplog):
    noted(tmp_path, "the one before")
    assert not asyncio.run(boots.counted(tmp_path, 0.1, boot))
    assert "start it before this server" in caplog.text
