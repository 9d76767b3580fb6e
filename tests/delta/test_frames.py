"""Tables of frames: what is written is read; what lies outside the format is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farshore.core.errors import Invalid
from farshore.delta.container import FRAME_BYTES, HISTORY_BYTES, Reader
from farshore.delta.frames import (
    KEPT,
    MOST_JOINT,
    MOST_VALUES,
    NOTHING,
    Copy,
    Piece,
    Plain,
    Span,
    copies_table,
    pieces_table,
    plain_table,
    read_copies,
    read_pieces,
    read_plain,
    source_span,
)
from farshore.delta.kin import Kin

gaps = st.lists(st.tuples(st.integers(0, 500), st.integers(1, 900)), max_size=12)


def rising(pairs):
    at, ranges = 0, []
    for gap, length in pairs:
        ranges.append((at + gap, length))
        at += gap + length
    return tuple(ranges)


@given(gaps, st.lists(st.integers(0, 10_000), min_size=12, max_size=12))
def test_copies_come_back(pairs, starts):
    copies = tuple(
        Copy(o, Span(k % 3, start, n)) for k, ((o, n), start) in enumerate(zip(rising(pairs), starts, strict=False))
    )
    assert read_copies(Reader(copies_table(copies))) == copies


@settings(max_examples=200)
@given(gaps, gaps, gaps, st.integers(0, 3), st.data())
def test_plain_frames_come_back(pairs, before, between, method, data):
    history = tuple(Span(k % 2 - 1, o, n) for k, (o, n) in enumerate(rising(before)))
    copies = tuple(Copy(o, Span(0, o + 17, n)) for o, n in rising(between))
    looked_back = sum(span.length for span in history)
    plain = Plain(rising(pairs), history, data.draw(st.integers(0, looked_back)), method, copies)
    assert read_plain(Reader(plain_table(plain))) == plain


def test_copies_that_fill_holes_cost_next_to_nothing():
    ranges = tuple((k * 1000, 100) for k in range(200))
    history = tuple(Span(0, 7 + k * 1000, 100) for k in range(200))
    copies = tuple(Copy(k * 1000 + 100, Span(0, 7 + k * 1000 + 100, 900)) for k in range(199))
    bare, full = (len(plain_table(Plain(ranges, history, 0, 2, c))) for c in ((), copies))
    assert full <= bare + 8


def test_ranges_side_by_side_are_passed_over_at_once():
    """Many copies among many adjacent ranges: neither deep nor slow."""
    ranges = tuple((k, 1) for k in range(30_000))
    copies = tuple(Copy(40_000 + k, Span(0, k, 1)) for k in range(30_000))
    plain = Plain(ranges, (), 0, 0, copies)
    assert read_plain(Reader(plain_table(plain))) == plain


PIECE = Piece(100, 0, 16, 9, source=0, at=40, scale=-7, size=-3, flags=6, joints=2, model=1)
PIECES = (
    PIECE,
    Piece(
        2000, 4, 4, 8, order=1, zero=-3, source=1, at=9, source_dtype=0, target_scale=Span(KEPT, 100, 16), target_axis=1
    ),
    Piece(3000, 0, 3, 2, source=0, at=0, source_rows=5, gather=(4, -1, 0)),
    Piece(4000, 0, 1, 6, source=0, at=800, folds=12, fold=2, factor=0x3F800000 << 1 | 1),
    Piece(5000, 0, 1, 6, source=KEPT, at=4000, partner=Span(KEPT, 4000, 24), rounds=1),
    Piece(6000, 10, 1, 6, source=NOTHING),
)


def test_pieces_come_back():
    assert read_pieces(Reader(pieces_table(PIECES))) == PIECES
    assert read_pieces(Reader(pieces_table(()))) == ()


def test_references_to_other_matrices_come_back():
    known = replace(PIECE, flags=32, own=3)
    pieces = (
        known,
        PIECES[1],
        replace(known, offset=5000, cols=16, own=0, kin=(Kin(1, False, 0, 9), Kin(1, True, 7, 5))),
    )
    assert read_pieces(Reader(pieces_table(pieces))) == pieces


def test_where_a_source_is():
    assert source_span(PIECE) == Span(0, 40, 16 * 9 * 4)
    assert source_span(PIECES[2]) == Span(0, 0, 5 * 2 * 4)
    assert source_span(PIECES[3]) == Span(0, 800, 12 * 6 * 4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rows": 0}, {"cols": MOST_VALUES + 1}, {"rows": MOST_VALUES, "cols": 2}, {"order": 2}, {"shift": 24},
        {"flags": 1}, {"flags": 16}, {"flags": 64}, {"flags": 32, "own": 16}, {"flags": 32, "kin": (Kin(1, True, 0, 1),)}, {"flags": 32, "rows": 3}, {"joints": 4}, {"rows": MOST_JOINT + 1, "cols": 1}, {"model": 8}, {"scale": 121},
        {"size": -121}, {"prior": 9}, {"source": 16}, {"source": -3}, {"source_axis": 3}, {"factor": -1}, {"at": -1},
        {"gather": (0,)}, {"gather": tuple([0] * 15 + [3]), "source_rows": 3}, {"folds": 3}, {"zero": 1 << 33},
        {"source_scale": Span(0, 0, 4), "source_axis": 1}, {"partner": Span(0, 0, 4)}, {"dtype": 10, "order": 1},
        {"source_dtype": 10, "source_order": 1}, {"dtype": 5, "zero": -1}, {"detail": 0, "dtype": 3}, {"detail": 0, "flags": 32},
    ],
)  # fmt: skip
def test_pieces_outside_the_format_are_refused(wrong):
    with pytest.raises(Invalid):
        read_pieces(Reader(pieces_table((replace(PIECE, **wrong),))))


def test_frames_larger_than_the_format_are_refused():
    with pytest.raises(Invalid, match="larger"):
        read_plain(Reader(plain_table(Plain(((0, FRAME_BYTES + 1),), (), 0, 0))))
    with pytest.raises(Invalid, match="larger"):
        read_plain(Reader(plain_table(Plain(((0, 1),), (Span(0, 0, HISTORY_BYTES + 1),), 0, 0))))
    with pytest.raises(Invalid, match="larger"):
        read_pieces(Reader(pieces_table(tuple(Piece(k << 23, 3, 1, MOST_VALUES) for k in range(3)))))


@pytest.mark.parametrize(
    "plain",
    [
        Plain(((5, 0),), (), 0, 0), Plain(((5, 3), (4, 2)), (), 0, 0), Plain(((0, 1),), (), 1, 0), Plain(((0, 1),), (), 0, 4),
        Plain(((0, 1),), (Span(0, -4, 2),), 0, 0), Plain(((0, 1),), (Span(-2, 0, 2), Span(-3, 0, 2)), 0, 0),
        Plain(((0, 1),), (), 0, 0, (Copy(1, Span(0, -1, 2)),)), Plain(((0, 1),), (), 0, 0, (Copy(1, Span(-1, 0, 2)),)),
        Plain(((0, 1),), (), 0, 0, (Copy(1, Span(0, 0, 0)),)), Plain(((0, 1),), (), 0, 0, (Copy(9, Span(0, 0, 3)), Copy(10, Span(0, 0, 3)))),
    ],
)  # fmt: skip
def test_plain_frames_outside_the_format_are_refused(plain):
    with pytest.raises(Invalid):
        read_plain(Reader(plain_table(plain)))


@pytest.mark.parametrize(
    "copy", [Copy(0, Span(0, 0, 0)), Copy(0, Span(-2, 0, 3)), Copy(0, Span(0, -2, 3)), Copy(-1, Span(0, 0, 3))]
)
def test_copies_outside_the_format_are_refused(copy):
    with pytest.raises(Invalid):
        read_copies(Reader(copies_table((copy,))))
