"""The kernel in C and its twin in Python give the same bits, and neither can be made to read or write elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farshore.delta import kernel
from farshore.delta.container import ONE_PLACE
from farshore.delta.kernel import coder

needs_kernel = pytest.mark.skipif(kernel._kernel is None, reason="the kernel was not built (no compiler)")
BOTH = [pytest.param(False, marks=needs_kernel, id="kernel"), pytest.param(True, id="twin")]

F32, F16, BF16, F64 = (
    (1, 32, 23, 127, 0, 0.0),
    (1, 16, 10, 15, 0, 0.0),
    (1, 16, 7, 127, 0, 0.0),
    (1, 64, 52, 1023, 0, 0.0),
)
I8, U8, I32, U4 = (0, 8, 0, 0, 0, 128.0), (0, 8, 0, 0, 0, 3.0), (0, 32, 0, 0, 0, 2147483648.0), (0, 4, 0, 0, 0, 8.0)
F32_SHORT = (1, 19, 23, 127, 13, 0.0)
GRIDS = {
    "f32": F32,
    "f16": F16,
    "bf16": BF16,
    "f64": F64,
    "i8": I8,
    "u8": U8,
    "i32": I32,
    "u4": U4,
    "f32>>13": F32_SHORT,
}


def spec(grid, rows, cols, flags=1, joints=1, detail=2, scale=0.25, size=1.0, prior=0.25):
    return (*grid, rows, cols, 3, flags, joints, detail, scale, size, prior)


def indices(grid, values):
    """Nearest grid indices of reals, by the format's own rules."""
    kind, bits, _, _, shift, zero = grid
    if kind == 0:
        return np.clip(np.rint(values) + zero, 0, 2**bits - 1).astype(np.uint64)
    if grid in {F32, F32_SHORT}:
        raw = values.astype(np.float32).view(np.uint32).astype(np.uint64)
    elif grid == F16:
        raw = values.astype(np.float16).view(np.uint16).astype(np.uint64)
    elif grid == BF16:
        raw = (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint64)
    else:
        raw = values.view(np.uint64)
    half = 1 << (bits + shift - 1)
    middle = half >> shift
    return np.array(
        [middle - 1 - ((x & (half - 1)) >> shift) if x >= half else middle + (x >> shift) for x in raw.tolist()],
        np.uint64,
    )


def encoded(twin, matrices):
    writer = coder(twin=twin)
    for u, base, model, described in matrices:
        writer.values(u.copy(), base, model, described)
    return writer.finish()


@needs_kernel
@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize(
    "shape",
    [
        (8, 20, 1, 1, 1),
        (8, 20, 1, 1, 0),
        (8, 20, 7, 3, 2),
        (1, 60, 1, 0, 1),
        (5, 12, 8, 2, 1),
        (4, 15, 15, 0, 1),
        (6, 40, 31, 1, 0),
        (1, 300, 8, 0, 0),
        (12, 20, 9, 1, 0),
    ],
)
def test_both_code_values_to_the_same_bits(name, shape):
    rows, cols, flags, joints, detail = shape
    grid, rng = GRIDS[name], np.random.default_rng(7)
    base = rng.normal(size=rows * cols) * (1 if grid[0] else 20)
    values = base * 1.01 + rng.normal(size=rows * cols) * (0.01 if grid[0] else 2)
    values[::9] = 0
    u = indices(grid, values)
    described = spec(grid, rows, cols, flags, joints, max(detail, grid == F64))
    matrices = [(u, base, 0, described), (u, np.zeros(len(u)), 1, described), (u[::-1].copy(), base, 0, described)]
    stream = encoded(twin=False, matrices=matrices)
    assert encoded(twin=True, matrices=matrices) == stream
    for twin in (False, True):
        reader = coder(stream, twin=twin)
        for expected, base_of, model, described_as in matrices:
            found = np.zeros_like(expected)
            reader.values(found, base_of, model, described_as)
            assert (found == expected).all()


CHANNELS = [  # rows, columns, own share, references: inputs and outputs, from a channel on, beyond what there is
    (6, 24, (9, *[0] * 12)),
    (8, 24, (0, 1, 1, 0, 13, 2, 0, 2, 2, *[0] * 4)),
    (5, 42, (3, 1, 0, 2, 9, 2, 0, 8, 5, 3, 1, 0, 1)),
    (8, 42, (3, 1, 1, 0, 9, 9, 0, 8, 5, 2, 0, 4, 1)),
]


@needs_kernel
@pytest.mark.parametrize("name", ["f32", "f16", "i8"])
@pytest.mark.parametrize("flags", [32, 33, 47])
def test_both_see_the_same_channels(name, flags):
    grid, rng = GRIDS[name], np.random.default_rng(11)
    matrices = []
    for rows, cols, kin in CHANNELS:
        base = rng.normal(size=rows * cols) * (1 if grid[0] else 20)
        u = indices(grid, base * 1.01 + rng.normal(size=rows * cols) * (0.01 if grid[0] else 2))
        matrices.append((u, base, spec(grid, rows, cols, flags, 2), kin))
    streams = []
    for twin in (False, True):
        writer = coder(twin=twin)
        for u, base, described, kin in matrices:
            writer.values(u.copy(), base, 0, described, kin)
        streams.append(writer.finish())
    assert streams[0] == streams[1]
    for twin in (False, True):
        reader = coder(streams[0], twin=twin)
        for u, base, described, kin in matrices:
            found = np.zeros_like(u)
            reader.values(found, base, 0, described, kin)
            assert (found == u).all()


@pytest.mark.parametrize("twin", BOTH)
def test_the_memory_of_a_stream_is_bounded(twin):
    """More matrices than are remembered: the oldest make room, and a reference to them is one to nothing."""
    rng = np.random.default_rng(5)
    base = rng.normal(size=16)
    u = indices(F32, base + 0.01 * rng.normal(size=16))
    sizes = []
    for back in (64, 65):
        writer = coder(twin=twin)
        for _ in range(66):
            writer.values(u.copy(), base, 0, spec(F32, 4, 4, 33))
        writer.values(u.copy(), base, 0, spec(F32, 4, 4, 33), (0, back, 1, 0, 15, *[0] * 8))
        sizes.append(writer.finish())
    plain = coder(twin=twin)
    for _ in range(67):
        plain.values(u.copy(), base, 0, spec(F32, 4, 4, 33))
    assert sizes[0] != sizes[1]
    assert sizes[1] == plain.finish()


@needs_kernel
def test_what_moves_together_costs_less_when_channels_are_known():
    """The second matrix has the first one's outputs as its inputs, and they go in pairs."""
    rng = np.random.default_rng(8)
    first = np.tile(rng.normal(size=(32, 40)), (2, 1)) + 0.1 * rng.normal(size=(64, 40))
    base = rng.normal(size=(16, 64))
    changed = base + 0.001 * rng.normal(size=(16, 200)) @ (first @ rng.normal(size=(40, 200))).T
    sizes = []
    for share in (0, 15):
        writer = coder()
        writer.values(indices(F32, first.T.ravel()), np.zeros(first.size), 1, spec(F32, 64, 40, 32, scale=1.0))
        before = writer.size
        u, a = indices(F32, changed.T.ravel()), np.ascontiguousarray(base.T).ravel()
        writer.values(u, a, 0, spec(F32, 16, 64, 33, scale=2.0**-4), (0, share // 15, 0, 0, share, *[0] * 8))
        sizes.append(writer.size - before)
    assert sizes[1] < 0.98 * sizes[0]


@needs_kernel
@pytest.mark.parametrize(
    ("rows", "cols", "period"), [(3, 24, 1), (8, 3, 1), (1025, 8, 1), (4, 520, 1), (8, 1040, 2), (4, 516, 129)]
)
def test_matrices_that_have_no_channels_are_refused(rows, cols, period):
    described = (*F32, rows, cols, period, 33, 0, 2, 0.25, 1.0, 0.25)
    with pytest.raises(ValueError, match="does not fit"):
        coder().values(np.zeros(rows * cols, np.uint64), np.zeros(rows * cols), 0, described)


@needs_kernel
@settings(max_examples=25, deadline=None)
@given(
    grid=st.sampled_from(list(GRIDS.values())), seed=st.integers(0, 2**32), flags=st.sampled_from([0, 1, 3, 5, 7, 8, 15, 16, 31]), detail=st.integers(0, 2),
    joints=st.integers(0, 3), scale=st.integers(-100, 100), wild=st.booleans(),
)  # fmt: skip
def test_any_indices_and_bases_come_back(grid, seed, flags, detail, joints, scale, wild):
    rng = np.random.default_rng(seed)
    rows, cols = int(rng.integers(1, 6)), int(rng.integers(1, 8))
    u = rng.integers(0, 2 ** grid[1], rows * cols, dtype=np.uint64, endpoint=False)
    base = rng.normal(size=rows * cols) * (1e30 if wild else 1)
    base = np.clip(base, -1e30, 1e30)
    described = spec(grid, rows, cols, flags, joints, max(detail, grid == F64), 2.0**scale, 2.0**-scale)
    streams = [encoded(twin, [(u, base, 2, described)]) for twin in (False, True)]
    assert streams[0] == streams[1]
    found = np.zeros_like(u)
    coder(streams[0]).values(found, base, 2, described)
    assert (found == u).all()


@pytest.mark.parametrize("twin", BOTH)
@settings(max_examples=30, deadline=None)
@given(stream=st.binary(max_size=40), grid=st.sampled_from(list(GRIDS.values())), flags=st.sampled_from([0, 7]))
def test_any_stream_decodes_to_something(twin, stream, grid, flags):
    found = np.zeros(30, np.uint64)
    coder(stream, twin=twin).values(found, np.linspace(-1, 1, 30), 0, spec(grid, 5, 6, flags, 1))
    assert int(found.max()) < 2 ** grid[1]
    data = bytearray(b"history history") + bytearray(30)
    coder(stream, twin=twin).bytes(data, ONE_PLACE, 15, 10, 1)
    assert data[:15] == b"history history"


TEXT = b"the quick brown fox jumps over the lazy dog, " * 12


@needs_kernel
@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("trained", [0, 100, 540])
def test_both_code_bytes_to_the_same_bits(level, trained):
    rng = np.random.default_rng(3)
    changed = bytearray(TEXT + TEXT[100:300])
    for _ in range(12):
        changed[rng.integers(len(changed))] = rng.integers(256)
    numbers = (np.arange(60, dtype="<u4") * 4096 + 0x1000).tobytes()
    history, target = TEXT[:540], bytes(changed) + numbers
    places = np.array([[0, 0], [300, 700], [540, 4], [700, 1000], [900, 4000]], np.int64)
    streams = []
    for twin in (False, True):
        writer = coder(twin=twin)
        writer.bytes(bytearray(history + target), places, len(history), trained, level)
        streams.append(writer.finish())
    assert streams[0] == streams[1]
    assert len(streams[0]) < len(target) // 3
    for twin in (False, True):
        data = bytearray(history) + bytearray(len(target))
        coder(streams[0], twin=twin).bytes(data, places, len(history), trained, level)
        assert data[len(history) :] == target


@needs_kernel
@settings(max_examples=40, deadline=None)
@given(history=st.binary(max_size=120), target=st.binary(max_size=200), again=st.booleans(), level=st.integers(0, 1))
def test_any_bytes_come_back(history, target, again, level):
    target = target + history + target if again else target
    streams = []
    for twin in (False, True):
        writer = coder(twin=twin)
        writer.bytes(bytearray(history + target), ONE_PLACE, len(history), len(history) // 2, level)
        streams.append(writer.finish())
    assert streams[0] == streams[1]
    data = bytearray(history) + bytearray(len(target))
    coder(streams[0]).bytes(data, ONE_PLACE, len(history), len(history) // 2, level)
    assert bytes(data[len(history) :]) == target


@pytest.mark.parametrize("twin", BOTH)
def test_descriptions_that_do_not_fit_are_refused(twin):
    u, base = np.zeros(6, np.uint64), np.zeros(6)
    for wrong in (spec(F32, 2, 4), spec(F32, 2, 2), spec(F32, 0, 6)):
        with pytest.raises(ValueError, match="does not fit"):
            coder(twin=twin).values(u, base, 0, wrong)
    with pytest.raises(ValueError, match="does not fit"):
        coder(twin=twin).values(u, np.array([0, 1, np.nan, 0, 0, 0]), 0, spec(F32, 2, 3))
    for history, trained in ((7, 0), (3, 4), (-1, 0)):
        with pytest.raises(ValueError, match="do not fit"):
            coder(twin=twin).bytes(bytearray(6), ONE_PLACE, history, trained, 0)


@needs_kernel
@pytest.mark.parametrize(
    "wrong",
    [
        spec((2, 8, 0, 0, 0, 0.0), 2, 3), spec((1, 65, 23, 127, 0, 0.0), 2, 3), spec((1, 32, 0, 127, 0, 0.0), 2, 3),
        spec((1, 32, 60, 127, 0, 0.0), 2, 3), spec((1, 32, 23, 0, 0, 0.0), 2, 3), spec((1, 32, 23, 127, -1, 0.0), 2, 3),
        spec((0, 8, 0, 0, 3, 0.0), 2, 3), spec((0, 8, 0, 0, 0, -1.0), 2, 3), spec(F32, 2, 3, joints=4), spec(F32, 2, 3, joints=-1),
        spec(F32, 2, 3, scale=0.0), spec(F32, 2, 3, size=float("inf")), spec(F32, 2, 3, prior=float("nan")), spec(F32, -2, -3), spec(F64, 2, 3, detail=0),
    ],
)  # fmt: skip
def test_the_kernel_checks_every_number(wrong):
    with pytest.raises(ValueError, match="does not fit"):
        coder().values(np.zeros(6, np.uint64), np.zeros(6), 0, wrong)


@needs_kernel
def test_the_kernel_checks_places():
    for places in ([], [[1, 0]], [[0, 0], [0, 5]], [[0, 0], [9, 5], [8, 5]], [[0, -1]], [[0, 0], [99, 0]]):
        with pytest.raises(ValueError, match="do not fit"):
            coder().bytes(bytearray(20), np.array(places, np.int64), 0, 0, 1)


@pytest.mark.parametrize("twin", BOTH)
def test_a_decoder_has_nothing_to_finish(twin):
    with pytest.raises(RuntimeError):
        coder(b"abc", twin=twin).finish()
