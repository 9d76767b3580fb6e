"""References between matrices: what the stream remembers, and what the format refuses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farshore.core.errors import Invalid
from farshore.delta.container import Reader
from farshore.delta.kin import Kin, Shelf, has_channels, kin_table, read_kin, taps_of

SHAPES = [(8, 24, 0), (16, 72, 9), (8, 16, 1)]


def test_a_channel_has_as_many_columns_as_places():
    assert [taps_of(72, 9), taps_of(72, 0), taps_of(72, 1), taps_of(70, 9)] == [9, 1, 1, 1]


@pytest.mark.parametrize(
    ("shape", "fine"),
    [
        ((4, 4, 0), True), ((3, 8, 0), False), ((8, 3, 0), False), ((1024, 64, 0), False), ((1000, 64, 0), True),
        ((64, 512, 0), True), ((64, 513, 0), False), ((4, 32, 0), True), ((4, 33, 0), False), ((8, 4 * 129, 129), False),
    ],
)  # fmt: skip
def test_which_matrices_have_channels(shape, fine):
    assert has_channels(*shape) is fine


def test_references_come_back():
    told = [(3, ()), (0, (Kin(1, False, 0, 15),)), (2, (Kin(1, True, 8, 7), Kin(2, False, 0, 13)))]
    assert list(read_kin(Reader(kin_table(told)), SHAPES)) == told
    assert kin_table([]) == b""
    assert list(read_kin(Reader(b""), [])) == []


@pytest.mark.parametrize(
    "kin",
    [
        (Kin(2, True, 0, 1),), (Kin(0, True, 0, 1),), (Kin(1, True, 0, 0),), (Kin(1, True, 0, 16),), (Kin(1, True, -1, 1),),
        (Kin(1, True, 1, 1),), (Kin(1, False, 17, 1),), (Kin(1, False, 0, 8), Kin(1, False, 7, 8)), (Kin(1, False, 0, 1),) * 4,
    ],
)  # fmt: skip
def test_references_that_lead_nowhere_are_refused(kin):
    with pytest.raises(Invalid):
        list(read_kin(Reader(kin_table([(0, ()), (0, kin)])), [(8, 24, 0), (8, 24, 0)]))


def test_tables_that_do_not_belong_together_are_refused():
    for told in ([(0, ())], [(0, ())] * 3):
        with pytest.raises(Invalid):
            list(read_kin(Reader(kin_table(told)), [(8, 24, 0)] * 2))


@given(st.lists(st.tuples(st.integers(4, 512), st.integers(4, 800)), max_size=90))
def test_the_shelf_holds_the_last_that_find_room(sizes):
    shelf = Shelf()
    for one in sizes:
        shelf.add(*one)
    kept = len(shelf)
    numbers = [one * one + two * two for one, two in sizes]
    assert kept <= 64
    assert kept == len(sizes) or kept == 64 or sum(numbers[len(sizes) - kept - 1 :]) > 1 << 20
    assert kept <= 1 or sum(numbers[len(sizes) - kept :]) <= 1 << 20
    if sizes:
        last = sizes[-1]
        assert shelf.fits(0, (Kin(1, True, 0, 15),), last[0])
        assert not shelf.fits(1, (Kin(1, True, 0, 15),), last[0])
        assert shelf.fits(0, (Kin(1, False, 2, 15),), last[1] + 2)
        assert not shelf.fits(0, (Kin(kept + 1, True, 0, 1),), 512)
