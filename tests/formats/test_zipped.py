"""A ZIP is untrusted: names, sizes and checksums are checked before anything is believed."""

from __future__ import annotations

import io
import struct
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farshore.formats import zipped
from farshore.formats.bounds import Malformed


def packed(files: dict[str, bytes], method=zipfile.ZIP_DEFLATED, before=b"", shifted=False) -> bytes:
    buffer = io.BytesIO()
    if shifted:  # offsets count from the file's first byte, as appending in place gives them
        buffer.write(before)
    with zipfile.ZipFile(buffer, "a" if shifted else "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue() if shifted else before + buffer.getvalue()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("shifted", [False, True])
def test_files_behind_other_bytes(method, shifted):
    files = {"labels.txt": b"cat\ndog\n" * 50, "navn-å.txt": b"", "raw.bin": bytes(range(256))}
    assert zipped.files(memoryview(packed(files, method, b"x" * 1000, shifted))) == files


@pytest.mark.parametrize("data", [b"", b"no archive", b"PK\5\6", b"PK\3\4" * 40])
def test_no_zip_is_no_files(data):
    assert zipped.files(memoryview(data)) == {}


@pytest.mark.parametrize("name", ["../up.txt", "a/b.txt", "a\\b.txt", ".hidden", "/abs"])
def test_names_must_be_plain(name):
    with pytest.raises(Malformed):
        zipped.files(memoryview(packed({name: b"x"})))


def test_a_bomb_is_not_unpacked(monkeypatch):
    bomb = packed({"zeros": bytes(zipped.MAX_FILE + 1)})
    assert len(bomb) < 10_000
    with pytest.raises(Malformed):
        zipped.files(memoryview(bomb))
    # The same bomb with a lie in its directory: unpacking stops at the size that it claims.
    lying = bytearray(bomb)
    at = lying.rfind(b"PK\1\2")
    struct.pack_into("<I", lying, at + 24, 100)
    with pytest.raises(Malformed):
        zipped.files(memoryview(lying))


def test_many_files_and_their_sum_are_capped():
    with pytest.raises(Malformed):
        zipped.files(memoryview(packed({f"{n}": b"" for n in range(zipped.MAX_FILES + 1)})))
    with pytest.raises(Malformed):
        zipped.files(memoryview(packed({f"{n}": bytes(zipped.MAX_FILE) for n in range(5)})))


def test_a_broken_checksum_is_noticed():
    data = bytearray(packed({"a": b"hello world"}, zipfile.ZIP_STORED))
    data[data.index(b"hello")] ^= 1
    with pytest.raises(Malformed):
        zipped.files(memoryview(data))


GOOD = packed({"labels.txt": b"cat\ndog\n" * 9, "b.bin": b"12345"}, before=b"model")


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_mutations_are_refused_or_change_nothing_but_what_is_read(changes):
    data = bytearray(GOOD)
    for at, value in changes:
        data[at] = value
    try:
        found = zipped.files(memoryview(data))
    except Malformed:
        return
    assert all(len(content) <= zipped.MAX_FILE for content in found.values())
    assert all(content in {b"cat\ndog\n" * 9, b"12345", b""} for content in found.values())
