"""What the channels of one matrix may know from others of the same stream: references, their limits, their tables.

A matrix with flag :data:`CHANNELS` is remembered by the stream: how its inputs (channels) and its outputs (rows) go
together. Later ones refer to that by how many such matrices back it is. docs/formats/patch.md, "Channels".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from farshore.core.errors import Invalid
from farshore.delta.container import Reader, read_columns, write_columns

CHANNELS = 32
"""Flag of a matrix whose channels are looked at."""
LEAST_CHANNELS, MOST_CHANNELS, MOST_TAPS, MOST_CHANNEL_ROWS = 4, 512, 128, 1024
MOST_KIN = 3
MOST_SHARE = 15
"""Sixteenths that may be known of a channel: the last one is its own."""
_MOST_KNOWN, _MOST_NUMBERS = 64, 1 << 20


@dataclass(frozen=True, slots=True)
class Kin:
    """A reference to what an earlier matrix told.

    Attributes:
        back: how many remembered matrices back; 1 is the last one.
        inputs: whether its inputs are alike, or its outputs.
        start: the first of one's own channels that is meant.
        share: sixteenths by which it counts.

    """

    back: int
    inputs: bool
    start: int
    share: int


def taps_of(cols: int, period: int) -> int:
    """Columns that belong to one channel (places of a kernel)."""
    return period if period > 1 and cols % period == 0 else 1


def has_channels(rows: int, cols: int, period: int) -> bool:
    """Whether a matrix has channels to speak of, and not so many that they would take longer than its values."""
    taps = taps_of(cols, period)
    n = cols // taps
    return (
        LEAST_CHANNELS <= rows <= MOST_CHANNEL_ROWS and taps <= MOST_TAPS and LEAST_CHANNELS <= n <= MOST_CHANNELS
        and n <= 8 * rows * taps and n * n + rows * rows <= _MOST_NUMBERS
    )  # fmt: skip


class Shelf:
    """How much of what was told is still remembered: the same in encoder, decoder and kernel."""

    def __init__(self) -> None:
        self._sizes: list[tuple[int, int]] = []

    def add(self, inputs: int, outputs: int) -> None:
        """One more matrix; the oldest make room for it."""
        numbers = sum(one * one + two * two for one, two in (*self._sizes, (inputs, outputs)))
        while self._sizes and (len(self._sizes) == _MOST_KNOWN or numbers > _MOST_NUMBERS):
            one, two = self._sizes.pop(0)
            numbers -= one * one + two * two
        self._sizes.append((inputs, outputs))

    def __len__(self) -> int:
        """Matrices that may be referred to."""
        return len(self._sizes)

    def fits(self, own: int, kin: Sequence[Kin], channels: int) -> bool:
        """Whether all references lead somewhere, and no channel is known by more than :data:`MOST_SHARE`."""
        if not 0 <= own <= MOST_SHARE or len(kin) > MOST_KIN:
            return False
        ranges = []
        for one in kin:
            if not (1 <= one.back <= len(self) and 1 <= one.share <= MOST_SHARE and one.start >= 0):
                return False
            end = one.start + self._sizes[-one.back][0 if one.inputs else 1]
            if end > channels:
                return False
            ranges.append((one.start, end, one.share))
        return all(
            own + sum(share for low, high, share in ranges if low <= start < high) <= MOST_SHARE
            for start, _, _ in ranges
        )


def kin_table(told: Sequence[tuple[int, tuple[Kin, ...]]]) -> bytes:
    """Own share and references of the matrices with channels; nothing if there are none."""
    if not told:
        return b""
    flat = [one for _, kin in told for one in kin]
    return write_columns([[own for own, _ in told], [len(kin) for _, kin in told]]) + write_columns([
        [one.back for one in flat], [int(one.inputs) for one in flat], [one.start for one in flat],
        [one.share for one in flat],
    ])  # fmt: skip


def read_kin(reader: Reader, shapes: Sequence[tuple[int, int, int]]) -> Iterator[tuple[int, tuple[Kin, ...]]]:
    """The opposite of :func:`kin_table`.

    Args:
        reader: stands at the table.
        shapes: rows, columns and period of the matrices with channels, in their order.

    Raises:
        Invalid: a matrix has no channels, or a reference leads nowhere.

    """
    if not shapes:
        return
    own, counts = read_columns(reader, 2, len(shapes))
    rows = list(zip(*read_columns(reader, 4, MOST_KIN * len(shapes)), strict=True))
    if len(own) != len(shapes) or sum(counts) != len(rows) or min(counts) < 0:
        raise Invalid("patch holds tables that do not belong together")
    shelf, used = Shelf(), 0
    for (height, cols, period), share, count in zip(shapes, own, counts, strict=True):
        kin = tuple(Kin(back, bool(inputs), start, part) for back, inputs, start, part in rows[used : used + count])
        used += count
        channels = cols // taps_of(cols, period)
        if not has_channels(height, cols, period) or not shelf.fits(share, kin, channels):
            raise Invalid("patch holds a matrix that refers to others that it cannot know")
        shelf.add(channels, height)
        yield share, kin
