"""The model of plain bytes (``_bytes.h``), bit for bit."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence

from farshore.delta.twin.ranges import Reader, Writer
from farshore.delta.twin.tables import (
    COUNTER_START,
    SQUASH,
    STRETCH,
    apm_learn,
    apm_p,
    apm_start,
    counter_after,
    counter_vote,
    learn,
    mix,
)  # fmt: skip

GUESSES, ADDRESSES, SHORT_MATCH, LONG_MATCH = 5, 1 << 12, 5, 20
NONE = 256
RUN_CLASSES = (24, 32, 48, 64, 128, 400, 2000)
_U32 = 0xFFFFFFFF
_U64 = (1 << 64) - 1


def hash2(a: int, b: int) -> int:
    """As the kernel's."""
    h = (a * 0x9E3779B1 & _U32) ^ ((b + 0x7F4A7C15 & _U32) * 0x85EBCA6B & _U32)
    h ^= h >> 15
    h = h * 0xC2B2AE35 & _U32
    return h ^ h >> 13


def _hash_back(data: bytearray, end: int, length: int) -> int:
    h = 0
    for k in range(1, length + 1):
        h = (h * 0x2F0B4C47 + data[end - k] + 1) & _U32
    return ((h ^ h >> 15) * 0x9E3779B1 & _U32) >> 7


def _power_above(n: int, low: int, high: int) -> int:
    x = low
    while x < n and x < high:
        x <<= 1
    return x


def _signed32(word: int) -> int:
    return word - (1 << 32) if word >> 31 else word


class _Pointer:
    __slots__ = ("at", "length", "misses")

    def __init__(self, at: int, length: int = 0, misses: int = 0) -> None:
        self.at, self.length, self.misses = at, length, misses

    def match_class(self) -> int:
        length = self.length
        return length if length < 16 else 16 if length < 32 else 17 if length < 64 else 18 if length < 512 else 19


class _Bytes:
    def __init__(
        self,
        coder: Writer | Reader,
        data: bytearray,
        places: Sequence[Sequence[int]],
        history: int,
        trained: int,
        level: int,
    ) -> None:
        self.c, self.d, self.n = coder, data, len(data)
        self.contexts = 16 if level else 8
        buckets = _power_above(
            (self.n - (history - trained)) * 2 * self.contexts, 1 << 10, 1 << 18 if level else 1 << 16
        )
        self.mask = buckets - 1
        self.buckets: dict[int, list[int]] = {}  # check, then fifteen counters
        self.recent_mask = _power_above(self.n, 1 << 10, 1 << 20) - 1
        self.recent: dict[int, int] = {}
        self.far: dict[int, int] = {}
        first = [16000] * GUESSES + [0] + [9000] * self.contexts
        self.by_match: dict[int, list[int]] = defaultdict(lambda: list(first))
        self.by_prefix: dict[int, list[int]] = defaultdict(lambda: list(first))
        self.hit: dict[int, int] = defaultdict(lambda: 3 << 30)
        self.runs = [COUNTER_START] * 256
        self.by_order1: dict[int, list[int]] = defaultdict(apm_start)
        self.by_state: dict[int, list[int]] = defaultdict(apm_start)
        self.aligned, self.newest = _Pointer(-1), _Pointer(-1)
        self.since = self.word = self.quiet = self.here = self.address = 0
        self.run = 5
        self.places = places
        self.first_place = sum(start < history for start, _ in places)
        self.last_range = self.last_step = -1
        self.word_guess, self.word_known, self.word_hits = [0] * 3, [0] * 3, [0] * 3
        self.pointed: dict[int, tuple[int, int]] = {}

    # -- where bytes are from

    def place_move(self, pos: int) -> None:
        while self.here + 1 < len(self.places) and self.places[self.here + 1][0] <= pos:
            self.here += 1
        self.address = self._address(self.here, pos)

    def _address(self, place: int, pos: int) -> int:
        return self.places[place][1] + pos - self.places[place][0]

    def _address_of(self, pos: int) -> int:
        low, high = 0, len(self.places)
        while high - low > 1:
            middle = (low + high) >> 1
            if self.places[middle][0] <= pos:
                low = middle
            else:
                high = middle
        return self._address(low, pos)

    def _range_end(self, place: int) -> int:
        return self._address(place, self.places[place + 1][0] if place + 1 < len(self.places) else self.n)

    def _word(self, at: int) -> int:
        return int.from_bytes(self.d[at : at + 4], "little")

    def words_guess(self, pos: int) -> None:
        at, address = self.aligned.at, self.address
        self.word_known = [0] * 3
        if at >= 0 and at + 4 <= pos:
            there = self._word(at)
            if at >= 4 and pos >= 4:
                shift = (self._word(pos - 4) - self._word(at - 4)) & _U32
                self.word_guess[0] = (there + shift) & _U32
                self.word_known[0] = int(shift != 0)
            base = self._address_of(at) - _signed32(there)
            known = self.pointed.get(_address_slot(base))
            if known and known[0] == base:
                self.word_guess[1] = (address - known[1]) & _U32
                self.word_known[1] = 1
        if pos < 4 or self.first_place >= len(self.places):
            return
        self._rows_guess(address - 4 + self._word(pos - 4), address)

    def _rows_guess(self, pointed: int, address: int) -> None:
        low, high = self.first_place, len(self.places)
        while low < high:
            middle = (low + high) >> 1
            if self._range_end(middle) >= pointed:
                high = middle
            else:
                low = middle + 1
        found = low < len(self.places) and self._range_end(low) - pointed < 256 and pointed > address
        place = low if found else -1
        if place >= 0:
            self.last_step = self.last_step if self.last_range < 0 else place - self.last_range
            follower = place + self.last_step
            if self.first_place <= follower < len(self.places):
                self.word_guess[2] = (self._range_end(follower) - (self._range_end(place) - pointed) - address) & _U32
                self.word_known[2] = 1
        self.last_range = place

    def words_learn(self, pos: int, address: int) -> None:
        word = self._word(pos)
        for k in range(3):
            if self.word_known[k]:
                hits = self.word_hits[k]
                self.word_hits[k] = min(hits + 1, 7) if self.word_guess[k] == word else hits >> 1
        at = self.aligned.at
        if at < 4 or at > pos + 4:
            return
        base = self._address_of(at - 4) - _signed32(self._word(at - 4))
        self.pointed[_address_slot(base)] = (base, address - _signed32(word))

    # -- one byte

    def _contexts(self, pos: int, guess: list[int]) -> list[int]:
        d = self.d
        c1, c2, c3, c4, c5, c6, c8, c12, c16 = (d[pos - k] if pos >= k else 0 for k in (1, 2, 3, 4, 5, 6, 8, 12, 16))
        at, newest = self.aligned.at, self.newest.at
        pb = d[at] if at >= 0 else NONE
        after = d[at + 1] if at >= 0 and at + 1 < pos else NONE
        before = d[at - 1] if at > 0 else NONE
        nb = d[newest] if newest >= 0 else NONE
        shift1 = (c1 - before) & 255 if at > 0 else 0
        carry = int(at > 0 and c1 < before)
        length, since = min(self.aligned.length, 15), min(self.since, 8)
        o4, phase = c1 | c2 << 8 | c3 << 16 | c4 << 24, self.address & 3
        x = [
            c1, c1 | c2 << 8, o4 & 0xFFFFFF, o4, hash2(o4, c5 | c6 << 8), hash2(pb | length << 9, c1),
            hash2(pb | shift1 << 9 | carry << 17, since),
            hash2(guess[2] | guess[3] << 9 | phase << 18, pb | guess[4] << 9),
            c4 | c8 << 8 | phase << 16, c4 | c1 << 8, hash2(self.word, c1), hash2(pb | after << 9, before),
            hash2(c8 | c16 << 8, c12), hash2(pb | nb << 9, since), hash2(c2 | c3 << 8, 0x55), 0,
        ]  # fmt: skip
        return [hash2(x[k], k + 1) for k in range(self.contexts)]

    def _bucket(self, h: int) -> list[int]:
        i = h & self.mask
        one = self.buckets.setdefault(i, [0] + [COUNTER_START] * 15)
        if one[0] == h:
            return one
        two = self.buckets.setdefault(i ^ 1, [0] + [COUNTER_START] * 15)
        if two[0] == h:
            return two
        if two[1] & 1023 < one[1] & 1023:
            one = two
        one[:] = [h] + [COUNTER_START] * 15
        return one

    def _guesses(self, pos: int) -> tuple[list[int], list[int]]:
        phase = self.address & 3
        if not phase:
            self.words_guess(pos)
        guess, base = [NONE] * GUESSES, [0] * GUESSES
        since = min(self.since, 15)
        for k in range(3):
            base[2 + k] = (2 + k) * 1024 + (phase * 8 + self.word_hits[k]) * 16 + since
            known = self.word_guess[k].to_bytes(4, "little")
            if self.word_known[k] and self.d[pos - phase : pos] == known[:phase]:
                guess[2 + k] = known[phase]
        for k, p in enumerate((self.aligned, self.newest)):
            if p.at >= 0:
                guess[k] = self.d[p.at]
            base[k] = k * 1024 + p.match_class() * 32 + min(p.misses, 15)
        return guess, base

    def byte(self, pos: int, *, known: bool) -> int:
        value = self.d[pos] if known or not self.c.decodes else 0
        c1 = self.d[pos - 1] if pos else 0
        guess, base = self._guesses(pos)
        contexts = self._contexts(pos, guess)
        length = self.aligned.length
        state = 0 if self.aligned.at < 0 else 1 + (16 if length > 30 else 15 if length > 14 else length)
        buckets: list[list[int]] = []
        prefix, since = 1, min(self.since, 15)
        for left in range(7, -1, -1):
            if left == 7:
                buckets = [self._bucket(h) for h in contexts]
            elif left == 3:
                buckets = [self._bucket(hash2(h, prefix)) for h in contexts]
            nibble = prefix if left > 3 else (prefix & ((1 << (3 - left)) - 1)) | 1 << (3 - left)
            hits = [base[k] + (16 if left < 7 and k < 2 else 0) for k in range(GUESSES)]
            votes, expected = [], []
            for k in range(GUESSES):
                byte = guess[k]
                if byte > 255 or (byte | 256) >> (left + 1) != prefix:
                    expected.append(-1)
                    votes.append(0)
                else:
                    expected.append(byte >> left & 1)
                    v = STRETCH[self.hit[hits[k]] >> 20]
                    votes.append(v if expected[k] else -v)
            votes.append(256)
            now = [bucket[nibble] for bucket in buckets]
            votes += [counter_vote(counter) for counter in now]
            agree = 0 if expected[0] < 0 else 1 if expected[1] < 0 else 2 if expected[0] == expected[1] else 3
            w0, w1 = self.by_match[(0 if expected[0] < 0 else state) * 4 + agree], self.by_prefix[prefix]
            d0, d1 = mix(w0, votes), mix(w1, votes)
            d = (d0 + d1) >> 1
            a0 = self.by_order1[hash2(c1 << 8 | prefix, 7) & 0xFFF]
            a1 = self.by_state[(0 if expected[0] < 0 else state * 2 + expected[0]) * 16 + since]
            p = (2 * SQUASH[d + 4096] + apm_p(a0, d) + apm_p(a1, d) + 2) >> 2
            bit = value >> left & 1
            if not known:
                bit = self.c.bit(bit, max(4, min(p, 65532)))
            learn(w0, votes, (bit << 16) - bit - SQUASH[d0 + 4096], 15)
            learn(w1, votes, (bit << 16) - bit - SQUASH[d1 + 4096], 15)
            apm_learn(a0, d, bit, 5)
            apm_learn(a1, d, bit, 5)
            for bucket, counter in zip(buckets, now, strict=True):  # the last wins where two share a bucket
                bucket[nibble] = counter_after(counter, bit, 60)
            for k in range(GUESSES):
                if expected[k] >= 0:
                    self.hit[hits[k]] = counter_after(self.hit[hits[k]], int(bit == expected[k]), 1000)
            prefix = prefix << 1 | bit
        return prefix & 255

    # -- pointers and runs

    def _run_back(self, one: int, two: int) -> int:
        k = 0
        while k < 32 and k < one and self.d[one - 1 - k] == self.d[two - 1 - k]:
            k += 1
        return k

    def _pointers(self, byte: int) -> None:
        for k, p in enumerate((self.aligned, self.newest)):
            if p.at < 0:
                continue
            if self.d[p.at] == byte:
                p.length = min(p.length + 1, 65535)
                if p.misses and not p.length & 15:
                    p.misses -= 1
            else:
                if k == 0:
                    self.since = 0
                p.length = 0
                p.misses += 1
            p.at += 1
            if p.misses > (0 if k else 8):
                p.at, p.misses, p.length = -1, 0, 0

    def move(self, pos: int) -> None:
        d = self.d
        byte, end = d[pos], pos + 1
        self._pointers(byte)
        if self.since < 255:
            self.since += 1
        if self.address & 3 == 3 and pos >= 3:
            self.words_learn(pos - 3, self.address - 3)
        self.place_move(end)
        letter = 97 <= byte | 32 <= 122
        self.word = hash2(self.word, byte) if letter else self.word if 48 <= byte <= 57 else 0
        if end < SHORT_MATCH:
            return
        h = _hash_back(d, end, SHORT_MATCH) & self.recent_mask
        found = self.recent.get(h, 0)
        self.recent[h] = end
        if self.newest.at < 0 and found:
            length = self._run_back(found, end)
            if length >= SHORT_MATCH:
                self.newest = _Pointer(found, length)
        if end >= LONG_MATCH:
            h = _hash_back(d, end, LONG_MATCH) & self.recent_mask
            found = self.far.get(h, 0) or found
            self.far[h] = end
        a = self.aligned
        if found and (a.at < 0 or (a.length < 16 and a.misses > 0)):
            length = self._run_back(found, end)
            if length > SHORT_MATCH and (a.at < 0 or length > a.length):
                self.aligned = _Pointer(found, length)

    def take_run(self, pos: int) -> int:
        if self.quiet:
            self.quiet -= 1
            return 0
        while self.aligned.at >= 0 and self.aligned.length >= 16 and self.run >= 4:
            length, at, d = 1 << self.run, self.aligned.at, self.d
            if pos + length > self.n:
                self.run -= 1
                continue
            bit = int(not self.c.decodes and d[at : at + length] == d[pos : pos + length])
            q = self.run * 8 + bisect_right(RUN_CLASSES, self.aligned.length)
            p = self.runs[q] >> 16
            bit = self.c.bit(bit, 16 if p < 16 else min(p, 65520))
            self.runs[q] = counter_after(self.runs[q], bit, 250)
            if bit:
                for k in range(length):
                    d[pos + k] = d[at + k]
                self.run = min(self.run + 1, 16)
                return length
            self.run -= 1
        if self.run < 4:
            self.quiet = 15
        self.run = 5
        return 0


def _address_slot(base: int) -> int:
    wide = base & _U64
    return hash2(wide & _U32, wide >> 32) & (ADDRESSES - 1)


def code_bytes(
    coder: Writer | Reader, data: bytearray, places: Sequence[Sequence[int]], history: int, trained: int, level: int
) -> None:
    """Code ``data[history:]`` after the rest, of which the last ``trained`` bytes teach the model first."""
    b = _Bytes(coder, data, places, history, trained, level)
    b.place_move(0)
    for pos in range(history):
        if pos + trained >= history:
            b.byte(pos, known=True)
        b.move(pos)
    b.place_move(history)
    b.aligned, b.newest = _Pointer(0 if history else -1), _Pointer(-1)
    pos = history
    while pos < len(data):
        taken = b.take_run(pos)
        if not taken:
            data[pos] = b.byte(pos, known=False)
            taken = 1
        for k in range(taken):
            b.move(pos + k)
        pos += taken
