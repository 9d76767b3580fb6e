"""Blobs, and downloads that survive any interruption."""

import errno
import os
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farshore.core import digest as digests
from farshore.core.errors import Corrupt, Invalid, NotFound, Unavailable
from farshore.store import blobs as blob_store
from farshore.store.blobs import CHUNK, Blobs

DATA = random.Random(1).randbytes(5 * CHUNK + 123)
DIGEST = digests.of(DATA)


@pytest.fixture
def blobs(tmp_path):
    return Blobs(tmp_path / "blobs")


def test_add_and_read(blobs):
    digest = blobs.add(b"hello")
    assert blobs.add(b"hello") == digest
    assert blobs.has(digest)
    assert blobs.path(digest).read_bytes() == b"hello"
    assert blobs.digests() == {digest: 5}
    assert blobs.used() == 5
    blobs.remove(digest)
    blobs.remove(digest)
    assert not blobs.has(digest)
    with pytest.raises(NotFound):
        blobs.path(digest)


def test_a_download_in_pieces(blobs):
    with blobs.partial(DIGEST, len(DATA)) as partial:
        for start in range(0, len(DATA), 1000):
            partial.append(DATA[start : start + 1000])
        assert partial.done == len(DATA)
        partial.finish()
    assert blobs.path(DIGEST).read_bytes() == DATA
    assert blobs.path(DIGEST).stat().st_mode & 0o777 == 0o444
    assert list(blobs.partials.iterdir()) == []


@settings(max_examples=40, deadline=None)
@given(cuts=st.lists(st.integers(0, len(DATA)), max_size=6))
def test_cut_anywhere_loses_less_than_a_chunk_per_cut(tmp_path_factory, cuts):
    blobs = Blobs(tmp_path_factory.mktemp("b"))
    fetched = 0
    for cut in [*sorted(cuts), len(DATA)]:
        with blobs.partial(DIGEST, len(DATA)) as partial:
            start = partial.done
            assert start % CHUNK == 0
            if cut > start:
                partial.append(DATA[start:cut])
                fetched += cut - start
            if cut == len(DATA):
                partial.finish()
                break
    assert blobs.path(DIGEST).read_bytes() == DATA
    assert fetched <= len(DATA) + len(cuts) * CHUNK


@pytest.mark.parametrize("suffix", ["part", "chunks"])
def test_a_sector_that_cannot_be_read_costs_what_comes_after_it(blobs, monkeypatch, suffix):
    with blobs.partial(DIGEST, len(DATA)) as partial:
        partial.append(DATA[: 4 * CHUNK])
    read = os.read

    def failing(fd, count):
        size = {"part": CHUNK, "chunks": 32}[suffix]
        bad = os.readlink(f"/proc/self/fd/{fd}").endswith(suffix) and os.lseek(fd, 0, os.SEEK_CUR) == 2 * size
        if bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(fd, count)

    with monkeypatch.context() as patch:
        patch.setattr(os, "read", failing)
        partial = blobs.partial(DIGEST, len(DATA))
    assert partial.done == 2 * CHUNK
    partial.append(DATA[2 * CHUNK :])
    partial.finish()
    assert blobs.path(DIGEST).read_bytes() == DATA


@pytest.mark.parametrize("harm", ["shorten", "zero", "flip", "lose-hashes", "shorten-hashes"])
def test_what_a_power_cut_scrambles_is_fetched_again(blobs, harm):
    with blobs.partial(DIGEST, len(DATA)) as partial:
        partial.append(DATA[: 4 * CHUNK])
    part, chunks = blobs._partial_files(DIGEST)
    content = bytearray(part.read_bytes())
    if harm == "shorten":
        part.write_bytes(content[: 2 * CHUNK + 17])
    elif harm == "zero":
        part.write_bytes(content[: 2 * CHUNK] + bytes(2 * CHUNK))
    elif harm == "flip":
        content[2 * CHUNK + 5] ^= 1
        part.write_bytes(content)
    elif harm == "lose-hashes":
        chunks.write_bytes(b"")
    else:
        chunks.write_bytes(chunks.read_bytes()[: 2 * 32 + 5])
    with blobs.partial(DIGEST, len(DATA)) as partial:
        assert partial.done == (0 if harm == "lose-hashes" else 2 * CHUNK)
        partial.append(DATA[partial.done :])
        partial.finish()
    assert blobs.path(DIGEST).read_bytes() == DATA


def test_wrong_bytes_are_discarded_and_the_next_try_starts_clean(blobs):
    with blobs.partial(DIGEST, len(DATA)) as partial:
        partial.append(bytes(len(DATA)))
        with pytest.raises(Corrupt):
            partial.finish()
    assert not blobs.has(DIGEST)
    with blobs.partial(DIGEST, len(DATA)) as partial:
        assert partial.done == 0


def test_too_many_and_too_few_bytes_are_refused(blobs):
    with blobs.partial(DIGEST, len(DATA)) as partial:
        partial.append(DATA[:10])
        with pytest.raises(Invalid):
            partial.finish()
        with pytest.raises(Invalid):
            partial.append(DATA)
        assert partial.done == 10
        partial.append(DATA[10:])
        partial.finish()


def test_an_empty_blob(blobs):
    empty = digests.of(b"")
    with blobs.partial(empty, 0) as partial:
        partial.finish()
    assert blobs.path(empty).read_bytes() == b""


def test_a_full_disk_in_mid_chunk_is_recovered_from(blobs, monkeypatch):
    real, calls = os.write, []

    def fail(fd, data):
        calls.append(len(data))
        if len(calls) == 5:
            real(fd, bytes(data)[:100])
            raise OSError(28, "No space left on device")
        return real(fd, data)

    partial = blobs.partial(DIGEST, len(DATA))
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", fail)
        with pytest.raises(Unavailable, match="disk full"):
            partial.append(DATA)
    with blobs.partial(DIGEST, len(DATA)) as again:
        assert again.done == 2 * CHUNK
        again.append(DATA[again.done :])
        again.finish()
    assert blobs.path(DIGEST).read_bytes() == DATA


def test_after_a_failed_fsync_nothing_of_the_part_is_believed(blobs, monkeypatch):
    def fail(fd):
        raise OSError(5, "Input/output error")

    partial = blobs.partial(DIGEST, len(DATA))
    partial.append(DATA[: 2 * CHUNK])
    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", fail)
        with pytest.raises(Unavailable):
            partial.flush()
    assert blobs.partial_digests() == []


def test_begun_downloads_are_listed_counted_and_forgotten(blobs):
    with blobs.partial(DIGEST, len(DATA)) as partial:
        partial.append(DATA[:CHUNK])
    assert blobs.partial_digests() == [DIGEST]
    assert blobs.used() == CHUNK + 32
    blobs.remove(DIGEST)
    assert blobs.partial_digests() == []


def test_verify(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"x")
    blob_store.verify(path, digests.of(b"x"))
    with pytest.raises(Corrupt):
        blob_store.verify(path, digests.of(b"y"))
    with pytest.raises(Corrupt):
        blob_store.verify(tmp_path / "missing", digests.of(b"y"))


def cut_within_finish(blobs, data, *, published):
    """What a power cut leaves of a download whose bytes are all here: the name of the beginning, and maybe the blob's as well."""
    digest = digests.of(data)
    partial = blobs.partial(digest, len(data))
    partial.append(data)
    partial.close()
    part = blobs.partials / f"{digest.removeprefix('sha256:')}.part"
    part.chmod(0o444)
    if published:
        os.link(part, blobs.folder / part.stem)
    return digest, part


def test_a_beginning_that_is_read_only_already_can_be_gone_on_with(blobs):
    data = random.Random(1).randbytes(2 * CHUNK)
    digest, part = cut_within_finish(blobs, data, published=False)
    again = Blobs(blobs.folder)
    assert part.stat().st_mode & 0o777 == 0o600
    with again.partial(digest, len(data)) as partial:
        assert partial.done == len(data)
        partial.finish()
    assert again.path(digest).read_bytes() == data


def test_a_blob_is_no_longer_called_a_beginning_after_a_start(blobs):
    digest, _ = cut_within_finish(blobs, random.Random(1).randbytes(2 * CHUNK), published=True)
    again = Blobs(blobs.folder)
    assert again.has(digest)
    assert again.path(digest).stat().st_mode & 0o777 == 0o444
    assert list(again.partials.iterdir()) == []


def test_a_download_that_cannot_be_opened_leaves_no_descriptor_open(blobs, monkeypatch):
    real, opened, closed = os.open, [], []

    def fail_second(path, *args, **kwargs):
        if str(path).endswith(".chunks"):
            raise OSError(5, "Input/output error")
        opened.append(real(path, *args, **kwargs))
        return opened[-1]

    real_close = os.close
    monkeypatch.setattr(os, "open", fail_second)
    monkeypatch.setattr(os, "close", lambda fd: closed.append(fd) or real_close(fd))
    with pytest.raises(Unavailable):
        blobs.partial(digests.of(b"x"), 1)
    assert closed == opened != []
