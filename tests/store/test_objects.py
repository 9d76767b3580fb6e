"""One suite for every kind of store: a folder, and a store that is not a folder."""

import asyncio
import time
from pathlib import Path

import pytest

from farshore.core import digest as digests
from farshore.core.errors import Invalid, NotFound, Unavailable
from farshore.store.objects import CHUNK, Objects

DATA = bytes(range(256)) * 4096
DIGEST = digests.of(DATA)
ABSENT = digests.of(b"absent")


@pytest.fixture(params=["folder", "url", "memory"])
def store(request, tmp_path):
    address = {
        "folder": str(tmp_path / "objects"),
        "url": (tmp_path / "with space").as_uri(),
        "memory": "memory:///",
    }
    return Objects.open(address[request.param])


def spooled(folder: Path, data: bytes) -> Path:
    path = folder / "spool"
    path.write_bytes(data)
    return path


def test_what_was_put_comes_back_whole_and_in_parts(store, tmp_path):
    path = spooled(tmp_path, DATA)
    store.put(DIGEST, path)
    assert not path.exists()
    assert store.size(DIGEST) == len(DATA)
    assert b"".join(store.chunks(DIGEST)) == DATA
    assert b"".join(store.chunks(DIGEST, 5)) == DATA[5:]
    assert b"".join(store.chunks(DIGEST, 5, 77)) == DATA[5:77]
    with store.local(DIGEST, tmp_path) as local:
        assert local.read_bytes() == DATA


def test_streams_to_an_event_loop(store, tmp_path):
    store.put(DIGEST, spooled(tmp_path, DATA))

    async def read(start, end):
        return [piece async for piece in store.stream(DIGEST, start, end)]

    assert b"".join(asyncio.run(read(3, len(DATA) - 1))) == DATA[3:-1]
    assert asyncio.run(read(9, 9)) == []


def test_a_folder_is_read_in_small_pieces(tmp_path):
    store = Objects.open(str(tmp_path / "o"))
    store.put(DIGEST, spooled(tmp_path, DATA))
    assert max(map(len, store.chunks(DIGEST))) <= 2 * CHUNK


def test_putting_again_and_removing_twice_is_fine(store, tmp_path):
    store.put(DIGEST, spooled(tmp_path, DATA))
    store.put(DIGEST, spooled(tmp_path, DATA))
    store.remove(DIGEST)
    store.remove(DIGEST)
    with pytest.raises(NotFound):
        store.size(DIGEST)


def test_what_is_stored_is_listed(store, tmp_path):
    assert list(store.stored()) == []
    before = time.time()
    store.put(DIGEST, spooled(tmp_path, DATA))
    [(digest, moment)] = store.stored()
    assert digest == DIGEST
    assert before - 5 < moment < time.time() + 5


def test_foreign_files_are_not_listed(tmp_path):
    store = Objects.open(str(tmp_path / "o"))
    store.put(DIGEST, spooled(tmp_path, DATA))
    (tmp_path / "o" / "sha256" / "README").write_text("x")
    (tmp_path / "o" / "other").write_text("x")
    assert [digest for digest, _ in store.stored()] == [DIGEST]


def test_absent_objects_are_not_found(store, tmp_path):
    with pytest.raises(NotFound):
        store.size(ABSENT)
    with pytest.raises(NotFound):
        list(store.chunks(ABSENT))
    with pytest.raises(NotFound), store.local(ABSENT, tmp_path):
        pass


def test_a_copy_made_for_reading_is_gone_afterwards(tmp_path):
    store = Objects.open("memory:///")
    store.put(DIGEST, spooled(tmp_path, DATA))
    with store.local(DIGEST, tmp_path) as local:
        assert local.parent == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_objects_in_a_folder_are_read_only(tmp_path):
    Objects.open(str(tmp_path / "o")).put(DIGEST, spooled(tmp_path, DATA))
    [path] = [path for path in (tmp_path / "o").rglob("*") if path.is_file()]
    assert path.stat().st_mode & 0o777 == 0o444


def test_bad_addresses_say_so(tmp_path):
    with pytest.raises(Invalid, match="nonsense"):
        Objects.open("nonsense://x/y")
    (tmp_path / "file").write_text("x")
    with pytest.raises(Unavailable):
        Objects.open(str(tmp_path / "file" / "below"))
