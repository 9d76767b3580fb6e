"""Numbers, columns, header and frames: what is written is read, what is damaged is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farshore.core.errors import Corrupt, FarshoreError, Invalid, TooLarge
from farshore.delta.container import (
    MOST_FRAME_HEAD,
    MOST_TABLE,
    Frame,
    Header,
    Kind,
    Named,
    Reader,
    frame_size,
    pack,
    put,
    read_columns,
    read_frame,
    read_header,
    signed,
    unpack,
    write_columns,
    write_frame,
    write_header,
    zigzag,
)

HEADER = Header(2, Named(70_000, bytes(range(32))), (Named(5, b"\1" * 32), Named(0, b"\2" * 32)), 64)


@given(st.integers(0, 2**63 - 1))
def test_numbers_come_back(number):
    out = bytearray()
    put(out, number)
    reader = Reader(out)
    assert reader.number() == number
    assert reader.at == len(out)


@given(st.integers(-(2**60), 2**60))
def test_signed_numbers_come_back(number):
    assert signed(zigzag(number)) == number


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xff" * 9, b"\x80" * 20])
def test_numbers_that_run_on_are_refused(data):
    with pytest.raises(Corrupt):
        Reader(data).number()


@given(
    st.integers(0, 30).flatmap(
        lambda n: st.lists(st.lists(st.integers(-(2**40), 2**40), min_size=n, max_size=n), min_size=1, max_size=4)
    )
)
def test_columns_come_back(columns):
    assert read_columns(Reader(write_columns(columns)), len(columns), 30) == columns


def test_a_constant_column_takes_one_number():
    assert len(write_columns([[7] * 1000])) == 4


def test_columns_beyond_the_limit_are_refused():
    with pytest.raises(Invalid):
        read_columns(Reader(write_columns([[1] * 11])), 1, 10)


def test_a_header_comes_back():
    data = write_header(HEADER)
    assert read_header(data + b"more") == (HEADER, len(data))


def test_every_damaged_or_short_header_is_refused():
    data = write_header(HEADER)
    for k in range(len(data)):
        with pytest.raises((Invalid, Corrupt)):
            read_header(data[:k])
        for flip in (1, 128):
            with pytest.raises((Invalid, Corrupt)):
                read_header(data[:k] + bytes([data[k] ^ flip]) + data[k + 1 :])


def test_another_version_is_named():
    data = bytearray(write_header(HEADER))
    data[4] = 9
    with pytest.raises(Invalid, match="version 9"):
        read_header(bytes(data))


@pytest.mark.parametrize("table", [b"", b"\0\1\2" * 100, bytes(range(256))])
@pytest.mark.parametrize("keep", [False, True])
def test_a_frame_comes_back(table, keep):
    frame = Frame(Kind.VALUES, keep, 0x12345678, pack(table), len(table), b"payload")
    data = write_frame(frame)
    assert frame_size(data, 1 << 20) == len(data)
    assert read_frame(data) == frame
    assert bytes(unpack(frame).data) == table


def read_whole(data):
    size = frame_size(data, 1 << 20)
    if size is None or size > len(data):
        raise Corrupt("cut off")
    return read_frame(data[:size])


def test_every_damaged_frame_is_refused():
    data = write_frame(Frame(Kind.COPY, False, 7, pack(bytes(40)), 40, b"payload"))
    for k in range(len(data)):
        wrong = data[:k] + bytes([data[k] ^ 64]) + data[k + 1 :]
        with pytest.raises(FarshoreError):
            read_whole(wrong)


def test_the_size_of_a_frame_waits_for_its_head():
    data = write_frame(Frame(Kind.COPY, False, 7, b"", 0, bytes(300)))
    assert frame_size(data[:5], 1 << 20) is None
    with pytest.raises(TooLarge):
        frame_size(data, 200)
    with pytest.raises(Corrupt):
        frame_size(b"\0" + b"\xff" * MOST_FRAME_HEAD, 1 << 20)


def test_a_table_that_would_unpack_too_large_is_refused():
    out = bytearray([0])
    for number in (MOST_TABLE + 1, 1, 0):
        put(out, number)
    with pytest.raises(TooLarge):
        frame_size(bytes(out) + bytes(20), 1 << 20)
