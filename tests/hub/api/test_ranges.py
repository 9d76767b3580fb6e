import pytest
from hypothesis import given
from hypothesis import strategies as st

from farshore.core import digest as digests
from farshore.hub.api.ranges import Unsatisfiable, span

DATA = bytes(range(256)) * 40
SIZE = len(DATA)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("bytes=0-", (0, 100)),
        ("bytes=10-", (10, 100)),
        ("bytes=10-19", (10, 20)),
        ("bytes=99-99", (99, 100)),
        ("bytes=90-200", (90, 100)),
        ("bytes=-1", (99, 100)),
        ("bytes=-500", (0, 100)),
        ("Bytes=0-0", None),
        ("items=0-5", None),
        ("bytes=x-5", None),
        ("bytes=5-4", None),
        ("bytes=-", None),
        ("bytes=1-2-3", None),
        ("bytes=٣-", None),
        ("bytes=99999999999999999999-", None),
        ("", None),
    ],
)
def test_spans(header, expected):
    assert span(header, 100) == expected


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=-0", "bytes=0-1,5-6", "bytes=500-600"])
def test_spans_that_cannot_be(header):
    with pytest.raises(Unsatisfiable):
        span(header, 100)


def test_an_empty_object_has_no_ranges():
    with pytest.raises(Unsatisfiable):
        span("bytes=0-", 0)
    assert span(None, 0) is None


@given(st.integers(0, 50), st.integers(0, 60), st.integers(0, 60))
def test_a_span_lies_inside(size, start, end):
    try:
        found = span(f"bytes={start}-{end}", size)
    except Unsatisfiable:
        assert start >= size
    else:
        assert found is None if end < start else 0 <= found[0] < found[1] <= size


@pytest.fixture
def blob(operator):
    return operator.upload(DATA)


def get(operator, digest, method="GET", status=200, **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return operator.ask(method, f"/v1/blobs/{digest}", headers=named, status=status)


def test_the_whole(operator, blob):
    answer = get(operator, blob)
    assert answer.content == DATA
    assert answer.headers["etag"] == f'"{blob}"'
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-length"] == str(SIZE)


def test_a_part(operator, blob):
    answer = get(operator, blob, Range="bytes=100-199", status=206)
    assert answer.content == DATA[100:200]
    assert answer.headers["content-range"] == f"bytes 100-199/{SIZE}"
    assert answer.headers["content-length"] == "100"
    assert get(operator, blob, Range="bytes=-3", status=206).content == DATA[-3:]


def test_beyond_the_end(operator, blob):
    answer = get(operator, blob, Range=f"bytes={SIZE}-", status=416)
    assert answer.headers["content-range"] == f"bytes */{SIZE}"
    assert answer.json()["error"]["code"] == "conflict"
    get(operator, blob, Range="bytes=0-1,3-4", status=416)


def test_if_range(operator, blob):
    assert get(operator, blob, Range="bytes=5-", If_Range=f'"{blob}"', status=206).content == DATA[5:]
    for other in ('"other"', f'W/"{blob}"', "Sun, 06 Nov 1994 08:49:37 GMT"):
        assert get(operator, blob, Range="bytes=5-", If_Range=other).content == DATA


def test_head_and_not_modified(operator, blob):
    answer = get(operator, blob, "HEAD")
    assert (answer.content, answer.headers["content-length"]) == (b"", str(SIZE))
    assert get(operator, blob, If_None_Match=f'"{blob}"', status=304).content == b""


def test_an_empty_object(operator):
    digest = operator.upload(b"")
    assert get(operator, digest).content == b""
    get(operator, digest, Range="bytes=0-", status=416)


def test_an_object_that_the_store_lost_is_an_error_not_a_broken_answer(operator, blob, hub):
    hub.registry.objects.remove(digests.parse(blob))
    assert get(operator, blob, status=404).json()["error"]["code"] == "not_found"


def test_a_slow_reader_costs_no_memory(process):
    operator = process.operator()
    size = 96 << 20
    block = bytes(range(256)) * 4096
    digest = operator.upload(block * (size // len(block)))

    def resident():
        with open(f"/proc/{process.process.pid}/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:")) * 1024

    before = resident()
    with process.connect() as link:
        head = (
            f"GET /v1/blobs/{digest} HTTP/1.1\r\nHost: x\r\nAuthorization: {operator.headers['Authorization']}\r\n\r\n"
        )
        link.sendall(head.encode())
        for _ in range(50):
            assert link.recv(16384)
        after = max(resident() for _ in range(2000))
    assert after - before < 24 << 20
