"""Frames between front and worker."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farshore.core.control import CaseResult
from farshore.core.errors import Corrupt
from farshore.serve import frames
from farshore.serve.frames import HEAD, Answer, Cancel, Check, Checked, Failed, Lead, Load, Reader, Ready, Score

TO_FRONT = [Ready(0.5), Failed("invalid", "why"), Answer(7, 200, (1.0, 2.0, 3.0)), Checked(8, (CaseResult("a", True),))]
TO_WORKER = [Load("/r", "m", "sha256:x", 2, 100), Score(1, 0.5, 3), Score(2), Cancel(1), Check(2), Lead()]


@pytest.mark.parametrize("message", TO_WORKER)
def test_what_the_front_says_is_understood(message):
    data = frames.head(message, 5)
    length, body = HEAD.unpack_from(data)
    assert body == 5
    assert frames.to_worker.decode(data[HEAD.size :]) == message
    assert len(data) == HEAD.size + length


@given(st.lists(st.tuples(st.sampled_from(TO_FRONT), st.binary(max_size=300)), max_size=8), st.data())
def test_frames_come_out_whole_however_they_are_cut(sent, data):
    stream = b"".join(frames.head(message, len(body)) + body for message, body in sent)
    reader, found, position = Reader(), [], 0
    while position < len(stream):
        step = data.draw(st.integers(1, len(stream) - position))
        found += reader.feed(stream[position : position + step])
        position += step
    assert found == sent


@pytest.mark.parametrize(
    "data",
    [HEAD.pack(1 << 31, 0), HEAD.pack(0, 1 << 31), HEAD.pack(3, 0) + b"abc", frames.head(Load("", "", "", 1, 1))],
    ids=["huge message", "huge body", "nonsense", "a word of the other side"],
)
def test_what_is_no_frame_is_told(data):
    with pytest.raises(Corrupt):
        list(Reader().feed(data))
