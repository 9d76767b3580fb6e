"""A patch leads to its target, in order and in bounded memory, or to a clear error; never to another file."""

from __future__ import annotations

import hashlib
import time

import numpy as np
import pytest

from farshore.core.errors import Corrupt, FarshoreError, Invalid, TooLarge
from farshore.delta import decode, encode
from farshore.delta.container import Frame, Header, Kind, Named, pack, write_frame, write_header
from farshore.delta.decoder import Kept
from farshore.delta.frames import KEPT, Copy, Piece, Plain, Span, copies_table, pieces_table, plain_table

LEVELS = ["fast", "default", "max"]


def whole(patch, bases, **options):
    return b"".join(decode(patch, bases, **options))


def named(data):
    return Named(len(data), hashlib.sha256(data).digest())


def handmade(target, bases, frames, memory=64):
    return write_header(Header(1, named(target), tuple(map(named, bases)), memory)) + b"".join(map(write_frame, frames))


def frame(kind, table, payload=b"", check=0, keep=False):
    return Frame(kind, keep, check, pack(table), len(table), payload)


@pytest.mark.parametrize("level", LEVELS)
def test_both_decoders_make_the_target(pair, level):
    base, target = pair
    patch = b"".join(encode(target, [base], level=level))
    assert len(patch) < 0.95 * len(target)
    assert whole(patch, [base]) == target


def test_the_twin_decodes_what_the_kernel_made(pair):
    base, target = (data[:9000] for data in pair)  # cut-off files: plain bytes only
    patch = b"".join(encode(target, [base], level="default"))
    assert whole(patch, [base], twin=True) == target


def test_chunks_of_any_size_do(pair):
    base, target = pair
    patch = b"".join(encode(target, [base]))
    assert b"".join(decode((patch[k : k + 7] for k in range(0, len(patch), 7)), [base])) == target


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_and_the_order_of_bases_change_nothing(pair, workers):
    base, target = pair
    other = b"another file that is held"
    patch = b"".join(encode(target, [other, base], workers=workers))
    assert whole(patch, [base, b"a third", other], workers=workers) == target


def test_a_missing_base_is_named(pair):
    base, target = pair
    patch = b"".join(encode(target, [base]))
    with pytest.raises(Invalid, match=hashlib.sha256(base).hexdigest()):
        whole(patch, [target])


def test_limits_are_checked_before_any_cost(pair):
    base, target = pair
    patch = b"".join(encode(target, [base]))
    with pytest.raises(TooLarge):
        whole(patch, [base], max_size=len(target) - 1)
    with pytest.raises(TooLarge):
        whole(patch, [base], max_memory=8)


def test_truncated_anywhere_is_refused(pair):
    base, target = pair
    patch = b"".join(encode(target[:600], [base[:600]], level="max"))
    for k in range(len(patch)):
        with pytest.raises(FarshoreError):
            whole(patch[:k], [base[:600]])


@pytest.mark.parametrize("level", LEVELS)
def test_mutated_is_refused_or_exact(pair, level):
    base, target = pair
    patch = b"".join(encode(target, [base], level=level))
    rng = np.random.default_rng(5)
    for _ in range(300):
        wrong = bytearray(patch)
        for _ in range(int(rng.integers(1, 4))):
            wrong[rng.integers(len(wrong))] = rng.integers(256)
        try:
            assert whole(wrong, [base]) == target
        except FarshoreError:
            pass


@pytest.mark.parametrize("level", LEVELS)
def test_mutated_with_right_checksums_is_refused_or_exact(pair, level):
    """The forger repairs the frame's checksum: tables and payloads reach the models, the target's digest still holds."""
    from farshore.delta.decoder import Stream

    base, target = pair
    patch = b"".join(encode(target, [base], level=level))
    stream = Stream(patch)
    head = write_header(stream.header())
    frames = list(stream.frames())
    rng = np.random.default_rng(6)
    for _ in range(60):
        pick = int(rng.integers(len(frames)))
        old = frames[pick]
        table, payload = bytearray(old.table), bytearray(old.payload)
        part = table if rng.random() < 0.6 or not payload else payload
        part[rng.integers(len(part))] ^= 1 << int(rng.integers(8))
        new = Frame(old.kind, bool(rng.integers(2)), old.check, bytes(table), old.table_size, bytes(payload))
        data = head + b"".join(write_frame(new if k == pick else f) for k, f in enumerate(frames))
        try:
            assert whole(data, [base]) == target
        except FarshoreError:
            pass


def crc(data):
    import zlib

    return zlib.crc32(data)


HELD = b"0123456789" * 10


def test_a_handmade_patch():
    target = HELD[5:25] + b"hello" + HELD[:3]
    frames = [
        frame(Kind.BYTES, plain_table(Plain(((20, 5),), (), 0, 0)), b"hello", crc(b"hello"), keep=True),
        frame(
            Kind.COPY,
            copies_table((Copy(0, Span(0, 5, 20)), Copy(25, Span(0, 0, 3)))),
            check=crc(HELD[5:25] + HELD[:3]),
        ),
    ]
    assert whole(handmade(target, [HELD], frames), [HELD]) == target


@pytest.mark.parametrize(
    ("frames", "error"),
    [
        ([], Corrupt),
        ([frame(Kind.COPY, copies_table((Copy(0, Span(0, 0, 9)),)), check=crc(HELD[:9]))], Corrupt),
        ([frame(Kind.COPY, copies_table((Copy(0, Span(0, 0, 10)),)), check=1)], Corrupt),
        ([frame(Kind.COPY, copies_table((Copy(0, Span(0, 95, 10)),)))], Invalid),
        ([frame(Kind.COPY, copies_table((Copy(0, Span(1, 0, 10)),)))], Invalid),
        ([frame(Kind.COPY, copies_table((Copy(0, Span(0, 0, 11)),)), check=crc(HELD[:11]))], Invalid),
        ([frame(Kind.COPY, copies_table((Copy(0, Span(0, 0, 10)),)), check=crc(HELD[:10]))] * 2, Invalid),
        ([frame(Kind.COPY, copies_table((Copy(0, Span(0, 10, 10)),)), check=crc(HELD[10:20]))], None),
        ([frame(Kind.COPY, copies_table((Copy(0, Span(0, 11, 10)),)), check=crc(HELD[11:21]))], Corrupt),
        ([frame(Kind.BYTES, plain_table(Plain(((0, 10),), (), 0, 0)), b"short", crc(b"short"))], Corrupt),
        ([frame(Kind.BYTES, plain_table(Plain(((0, 10),), (), 0, 1)), b"not zstandard", 0)], Corrupt),
        ([frame(Kind.BYTES, plain_table(Plain(((0, 10),), (Span(KEPT, 0, 4),), 0, 2)), b"", 0)], Invalid),
        ([frame(Kind.VALUES, pieces_table((Piece(0, 5, 1, 10, source=0, at=95),)), b"", 0)], Invalid),
        ([frame(Kind.VALUES, pieces_table((Piece(0, 5, 1, 10, source=KEPT),)), b"", 0)], Invalid),
        ([frame(Kind.PLANES, pieces_table((Piece(0, 5, 1, 10),)), b"", 0)], Corrupt),
    ],
)
def test_handmade_patches_that_do_not_hold(frames, error):
    target = HELD[:10]
    patch = handmade(target, [HELD], frames)
    if error is None:
        assert whole(patch, [HELD]) == target
        return
    with pytest.raises(error):
        whole(patch, [HELD])


def test_memory_is_what_the_header_says():
    target = bytes(3 << 20)
    late = frame(Kind.BYTES, plain_table(Plain(((1, len(target) - 1),), (), 0, 0)), target[1:], crc(target[1:]))
    early = frame(Kind.BYTES, plain_table(Plain(((0, 1),), (), 0, 0)), target[:1], crc(target[:1]))
    assert whole(handmade(target, [], [late, early], memory=4), []) == target
    with pytest.raises(Invalid, match="memory"):
        whole(handmade(target, [], [late, early], memory=2), [])


def test_small_hostile_patches_cost_little():
    zeros = Plain(((0, 1 << 20),), (), 0, 3)
    patch = handmade(bytes(1 << 20), [], [frame(Kind.BYTES, plain_table(zeros), b"\xff\x31\x07" * 5, 0)])
    start = time.process_time()
    with pytest.raises(FarshoreError):
        whole(patch, [])
    assert time.process_time() - start < 60  # a bound, not a speed


NOTHING_CODED = frame(Kind.BYTES, plain_table(Plain((), (Span(0, 0, len(HELD)),), 0, 0)))
"""A frame that looks back on much and makes nothing."""


@pytest.mark.parametrize(
    "flood",
    [
        pytest.param([NOTHING_CODED] * (1 << 14), id="history"),
        pytest.param([frame(Kind.BYTES, plain_table(Plain((), (), 0, 0)) + bytes(1 << 16))] * 20, id="tables"),
        pytest.param([frame(Kind.COPY, copies_table(tuple(Copy(k, Span(0, 0, 1)) for k in range(1 << 13))))], id="entries"),
        pytest.param([frame(Kind.BYTES, plain_table(Plain(((0, 1 << 22),), (), 0, 3)))], id="bytes"),
        pytest.param([frame(Kind.VALUES, pieces_table(tuple(Piece(k << 21, 0, 1, 1 << 19) for k in range(3))))], id="values"),
    ],
)  # fmt: skip
def test_small_patches_cannot_ask_for_much_work(flood):
    patch = handmade(HELD[:10], [HELD], flood)
    assert len(patch) < 1 << 20
    with pytest.raises(TooLarge, match="more work"):
        whole(patch, [HELD])


def test_ranges_that_wait_take_memory_too():
    target = bytes(9000)
    copies = tuple(Copy(k, Span(0, 0, 1)) for k in range(1, len(target)))
    frames = [
        frame(Kind.COPY, copies_table(copies), check=crc(target[1:])),
        frame(Kind.COPY, copies_table((Copy(0, Span(0, 0, 1)),)), check=crc(target[:1])),
    ]
    held = bytes(1 << 20)
    assert whole(handmade(target, [held], frames, memory=3), [held]) == target
    with pytest.raises(Invalid, match="memory"):
        whole(handmade(target, [held], frames, memory=2), [held])


@pytest.mark.parametrize("claimed", [0, 9, 11, 1 << 20, 1 << 50])
def test_a_payload_that_claims_another_length_costs_nothing(claimed):
    """Zstandard's own header would be believed before the table, and memory taken for it."""
    content = claimed.to_bytes(8, "little")
    payload = b"\x28\xb5\x2f\xfd\xe0" + content + b"\x51\x00\x00" + HELD[:10]  # one raw block of ten bytes
    frames = [frame(Kind.BYTES, plain_table(Plain(((0, 10),), (), 0, 1)), payload, crc(HELD[:10]))]
    with pytest.raises(Corrupt, match="number of bytes"):
        whole(handmade(HELD[:10], [], frames), [])
    honest = payload.replace(content, (10).to_bytes(8, "little"))
    frames = [frame(Kind.BYTES, plain_table(Plain(((0, 10),), (), 0, 1)), honest, crc(HELD[:10]))]
    assert whole(handmade(HELD[:10], [], frames), []) == HELD[:10]


def test_kept_ranges_are_counted():
    kept = Kept()
    kept.add([(k, b"x") for k in range(1 << 16)])
    with pytest.raises(TooLarge):
        kept.add([(1 << 16, b"x")])


def test_kept_bytes_are_found_where_they_are():
    kept = Kept()
    kept.add([(10, b"abcdef"), (100, b"xyz"), (50, Span(0, 0, 4))])
    assert bytes(kept.fetch(Span(KEPT, 12, 3))) == b"cde"
    for span in (Span(KEPT, 9, 2), Span(KEPT, 14, 4), Span(KEPT, 0, 1), Span(KEPT, 50, 1)):
        with pytest.raises(Invalid):
            kept.fetch(span)
