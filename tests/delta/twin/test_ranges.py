"""The range coder loses nothing and little."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from farshore.delta.twin.ranges import Reader, Writer

steps = st.lists(
    st.one_of(
        st.tuples(st.just("bit"), st.integers(0, 1), st.integers(1, 65535)),
        st.integers(1, 2**32).flatmap(lambda n: st.tuples(st.just("uniform"), st.integers(0, n - 1), st.just(n))),
    ),
    max_size=60,
)


@given(steps)
def test_what_is_written_is_read(script):
    writer = Writer()
    for kind, value, n in script:
        getattr(writer, kind)(value, n)
    stream = writer.finish()
    reader = Reader(stream)
    assert [getattr(reader, kind)(0, n) for kind, _, n in script] == [value for _, value, _ in script]
    bits = sum(
        math.log2(n) if kind == "uniform" else -math.log2((n if value else 65536 - n) / 65536)
        for kind, value, n in script
    )
    assert len(stream) <= bits / 8 + 2


def test_carries_run_back():
    writer = Writer()
    for _ in range(400):
        writer.bit(0, 1)
    for _ in range(9):
        writer.uniform(2**32 - 1, 2**32)
    reader = Reader(writer.finish())
    assert [reader.bit(0, 1) for _ in range(400)] == [0] * 400
    assert [reader.uniform(0, 2**32) for _ in range(9)] == [2**32 - 1] * 9


@given(st.binary(max_size=20))
def test_any_stream_reads(data):
    reader = Reader(data)
    assert all(reader.bit(0, 30000) in {0, 1} for _ in range(50))
    assert all(0 <= reader.uniform(0, 10) < 10 for _ in range(20))
