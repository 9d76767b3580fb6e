"""Honest archives; the others are in tests/attacks."""

import io
import zipfile

import pytest

from farshore.core import digest as digests
from farshore.core.errors import Invalid
from farshore.store import archive


@pytest.fixture
def packed(tmp_path):
    def pack(files, method=zipfile.ZIP_DEFLATED):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", method) as opened:
            for name, data in files.items():
                opened.writestr(name, data)
        path = tmp_path / "pushed.zip"
        path.write_bytes(out.getvalue())
        return path

    return pack


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_come_in_order_with_their_digests(packed, tmp_path, method):
    files = {"v2/model.onnx": bytes(range(256)) * 9000, "v2/labels.txt": b"a\n", "v2/empty.bin": b""}
    found = [
        (member.name, member.digest, member.size, member.path.read_bytes())
        for member in archive.unpack(packed(files, method), tmp_path, limit=1 << 30)
    ]
    assert found == [(name[3:], digests.of(data), len(data), data) for name, data in files.items()]


def test_a_member_may_be_taken_and_is_gone_otherwise(packed, tmp_path):
    path = packed({"a": b"1", "b": b"2"})
    for member in archive.unpack(path, tmp_path, limit=100):
        if member.name == "a":
            member.path.rename(tmp_path / "taken")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["pushed.zip", "taken"]


@pytest.mark.parametrize(
    ("name", "head", "expected"),
    [
        ("a.zip", b"PK\x03\x04", True),
        ("A.ZIP", b"PK\x05\x06", True),
        ("a.onnx", b"PK\x03\x04", False),
        ("a.zip", b"\x08\x07", False),
        ("a.zip", b"", False),
    ],
)
def test_what_is_a_zip(name, head, expected):
    assert archive.is_zip(name, head) is expected


def test_an_empty_one(packed, tmp_path):
    with pytest.raises(Invalid, match="no files"):
        list(archive.unpack(packed({}), tmp_path, limit=100))
