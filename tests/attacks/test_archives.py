"""Archives that are made to do harm: each is refused in one clear line, nothing is written outside, nothing is left over."""

import contextlib
import io
import stat
import struct
import tracemalloc
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from farshore.core.errors import FarshoreError, Invalid, TooLarge
from farshore.store import archive

LIMIT = 64 << 20


def zipped(members, *, method=zipfile.ZIP_DEFLATED, change=None) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as opened:
        for name, data in members:
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            if change:
                change(info)
            opened.writestr(info, data)
    return out.getvalue()


@pytest.fixture
def unpack(tmp_path):
    """Unpack bytes as the hub would: name → bytes. Checks that nothing stays in the spool, nor appears beside it."""
    spool = tmp_path / "inner" / "spool"
    spool.mkdir(parents=True)
    path = tmp_path / "pushed.zip"

    def call(data: bytes, limit: int = LIMIT):
        path.write_bytes(data)
        try:
            return {one.name: one.path.read_bytes() for one in archive.unpack(path, spool, limit=limit)}
        finally:
            assert sorted(str(one.relative_to(tmp_path)) for one in tmp_path.rglob("*")) == [
                "inner",
                "inner/spool",
                "pushed.zip",
            ]

    return call


def test_an_honest_one(unpack):
    data = zipped(
        [
            ("v2/", b""),
            ("v2/model.onnx", b"m" * 10),
            ("v2/étiquettes.txt", b"l"),
            ("__MACOSX/v2/._x", b"x"),
            (".hidden", b"x"),
        ]
    )
    assert unpack(data) == {"model.onnx": b"m" * 10, "étiquettes.txt": b"l"}


@pytest.mark.parametrize(
    "name",
    [
        "../model.onnx",
        "a/../../model.onnx",
        "/etc/passwd",
        "//x",
        "a//b",
        "./model.onnx",
        "..",
        "C:/model.onnx",
        "C:model.onnx",
        "a\\..\\b",
        "..\\model.onnx",
        "model\x01.onnx",
        "a/\x7f",
        "x" * 256,
    ],
)
def test_names_that_lead_elsewhere(unpack, name):
    with pytest.raises(Invalid):
        unpack(zipped([(name, b"x")]))


def test_a_nul_hides_nothing(unpack):
    data = zipped([("model.onnxZ.txt", b"x")]).replace(b"onnxZ", b"onnx\0")
    with pytest.raises(Invalid, match="bad member name"):
        unpack(data)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_links_and_devices(unpack, kind):
    def change(info):
        info.external_attr = (kind | 0o777) << 16

    with pytest.raises(Invalid, match="not a plain file"):
        unpack(zipped([("model.onnx", b"/etc/passwd")], change=change))


def test_a_bomb_by_its_ratio(unpack):
    with pytest.raises(TooLarge, match="times its size"):
        unpack(zipped([("model.onnx", bytes(40 << 20))]))


def test_a_bomb_by_its_size(unpack):
    with pytest.raises(TooLarge, match="unpacks to"):
        unpack(zipped([("a", bytes(600)), ("b", bytes(600))]), limit=1000)


def test_a_bomb_that_lies_about_its_size(unpack):
    data = zipped([("model.onnx", bytes(1 << 20))])
    size = struct.pack("<I", 1 << 20)
    assert data.count(size) == 2
    with pytest.raises(Invalid):
        unpack(data.replace(size, struct.pack("<I", 10)))


def test_a_bomb_of_overlapping_members(unpack):
    """Many entries of the directory share one kernel of data (Fifield's)."""
    one = zipped([("a", b"x" * 1000)], method=zipfile.ZIP_STORED)
    at = one.index(b"PK\x01\x02")
    end = one.index(b"PK\x05\x06")
    entry, count = one[at:end], 50
    directory = entry * count
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, len(directory), at, 0)
    with pytest.raises(Invalid, match="overlaps"):
        unpack(one[:at] + directory + tail)


def test_too_many_members(unpack):
    with pytest.raises(TooLarge, match="members"):
        unpack(zipped([(f"f{number}", b"") for number in range(archive.MAX_MEMBERS + 1)]))


def test_a_huge_directory_is_not_read_into_memory(unpack):
    size = 64 << 20
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, size, 0, 0)
    data = b"PK\x03\x04" + bytes(size - 4) + tail
    tracemalloc.start()
    with pytest.raises(TooLarge, match="directory"):
        unpack(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20


def test_encrypted_members_and_odd_methods(unpack):
    data = bytearray(zipped([("model.onnx", b"x" * 100)], method=zipfile.ZIP_STORED))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + offset] |= 1
    with pytest.raises(Invalid, match="encrypted"):
        unpack(bytes(data))
    with pytest.raises(Invalid, match="deflate"):
        unpack(zipped([("model.onnx", b"x" * 100)], method=zipfile.ZIP_LZMA))


def test_two_members_of_one_name(unpack):
    with pytest.warns(UserWarning, match="Duplicate"):
        data = zipped([("model.onnx", b"a"), ("model.onnx", b"b")])
    with pytest.raises(Invalid, match="twice"):
        unpack(data)


def test_a_changed_byte_is_noticed(unpack):
    data = bytearray(zipped([("model.onnx", bytes(range(256)) * 8)], method=zipfile.ZIP_STORED))
    data[100] ^= 1
    with pytest.raises(Invalid, match="broken"):
        unpack(bytes(data))


HONEST = zipped([("v2/model.onnx", bytes(range(256)) * 8), ("v2/labels.txt", b"a\nb\n" * 20)])


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, len(HONEST) - 1), st.integers(0, 255)), min_size=1, max_size=6),
    st.integers(0, len(HONEST)),
)
def test_mutated_and_cut_archives_are_refused_or_right(unpack, changes, keep):
    data = bytearray(HONEST)
    for at, value in changes:
        data[at] = value
    for mutated in (bytes(data), bytes(data[:keep])):
        with contextlib.suppress(FarshoreError):
            assert sum(map(len, unpack(mutated).values())) < LIMIT
