"""What front and worker say to each other over their socket pair.

A frame is two little-endian uint32 (length of the message, length of the body), the message (MessagePack of one of the types
below) and the body (a picture or tensors on the way in, an answer on the way out). Both ends are this program; the limits
keep a worker that a hostile model took over from filling the front's memory.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from farshore.core.control import CaseResult
from farshore.core.errors import Corrupt, FarshoreError, Unavailable, from_code

HEAD = struct.Struct("<II")
MAX_MESSAGE = 1 << 20
MAX_ANSWER = 64 << 20

Drawing = Literal["jpeg", "png"]
"""How an annotated picture is encoded."""

Found = Annotated[tuple[tuple[str, float], ...], Meta(max_length=512)]
"""Class and confidence of findings."""


class Load(Struct, frozen=True, tag="load", array_like=True):
    """Load that version from the slots under ``root``; answered by :class:`Ready` or :class:`Failed`.

    ``crowded`` tells that several requests are to be expected at once, ``tuned`` that what was measured goes before ``threads``.
    """

    root: str
    model: str
    digest: str
    threads: int
    max_pixels: int
    crowded: bool = False
    tuned: bool = True


class Score(Struct, frozen=True, tag="score", array_like=True):
    """Answer the picture in the body; ``threshold`` and ``top`` override the model's own, ``draw`` asks for a picture."""

    id: int = 0
    threshold: float | None = None
    top: int | None = None
    draw: Drawing | None = None


class Infer(Struct, frozen=True, tag="infer", array_like=True):
    """Run the model on the tensors in the body, an inference request of the Open Inference Protocol.

    Its first ``head`` bytes are JSON, binary tensors follow; None means that all of it is JSON.
    """

    id: int = 0
    head: int | None = None


class Compare(Struct, frozen=True, tag="compare", array_like=True):
    """Answer the picture unseen, and compare with another version's answer; answered by :class:`Compared`.

    The first ``picture`` bytes of the body are the picture, the others that answer; ``threshold`` and ``top`` as in :class:`Score`.
    """

    id: int
    picture: int
    threshold: float | None = None
    top: int | None = None


class Cancel(Struct, frozen=True, tag="cancel", array_like=True):
    """Nobody waits for that answer any more: skip it unless it runs already. Answered in both cases, so that the front knows that it is over."""

    id: int


class Check(Struct, frozen=True, tag="check", array_like=True):
    """Answer the acceptance cases; answered by :class:`Checked`."""

    id: int


class Lead(Struct, frozen=True, tag="lead", array_like=True):
    """This worker takes traffic from now on: take normal priority."""


class Ready(Struct, frozen=True, tag="ready", array_like=True):
    """Loaded and warm; answers ``width`` requests at once."""

    seconds: float
    width: int = 1


class Failed(Struct, frozen=True, tag="failed", array_like=True):
    """Not loaded: a code of :mod:`farshore.core.errors` and one line. The worker ends."""

    code: str
    message: str


class Answer(Struct, frozen=True, tag="answer", array_like=True):
    """The answer in the body. ``stages`` are milliseconds of decoding, inference and the rest; ``head`` as in :class:`Infer`."""

    id: int
    status: int
    stages: tuple[float, float, float] = (0.0, 0.0, 0.0)
    head: int | None = None


class Checked(Struct, frozen=True, tag="checked", array_like=True):
    """How each acceptance case went."""

    id: int
    cases: tuple[CaseResult, ...]


class Compared(Struct, frozen=True, tag="compared", array_like=True):
    """How a comparison went: ``status`` of the own answer; ``agreement`` with the other, None if they cannot be compared; what was
    found in the other answer, and in the own one.
    """

    id: int
    status: int
    agreement: Annotated[float, Meta(ge=0, le=1)] | None = None
    before: Found = ()
    after: Found = ()


ToWorker = Load | Score | Infer | Compare | Cancel | Check | Lead
ToFront = Ready | Failed | Answer | Checked | Compared

_encoder = msgspec.msgpack.Encoder()
to_worker = msgspec.msgpack.Decoder(ToWorker)
to_front = msgspec.msgpack.Decoder(ToFront)


def head(message: ToWorker | ToFront, body_length: int = 0) -> bytes:
    """The frame up to its body."""
    encoded = _encoder.encode(message)
    return HEAD.pack(len(encoded), body_length) + encoded


class _Fault(Struct):
    code: str
    message: str


class _Error(Struct):
    error: _Fault


_error = msgspec.json.Decoder(_Error)


def error_body(error: FarshoreError) -> bytes:
    """The one shape of errors: ``{"error": {"code", "message"}}``."""
    return msgspec.json.encode(_Error(_Fault(error.code, error.message)))


def error_in(body: bytes) -> FarshoreError:
    """The error that a worker answered."""
    try:
        found = _error.decode(body).error
    except msgspec.DecodeError:
        return Unavailable("the worker answered an error that cannot be read")
    return from_code(found.code, found.message)


class Reader:
    """Bytes in, the front's frames out.

    Args:
        max_body: bytes of the largest body.

    """

    def __init__(self, max_body: int = MAX_ANSWER) -> None:
        self._buffer = bytearray()
        self._max_body = max_body

    def feed(self, data: bytes) -> Iterator[tuple[ToFront, bytes]]:
        """Every frame that is whole after ``data``.

        Raises:
            Corrupt: what came is not a frame; nothing after it can be read.

        """
        buffer = self._buffer
        buffer += data
        position = 0
        try:
            while len(buffer) - position >= HEAD.size:
                message_length, body_length = HEAD.unpack_from(buffer, position)
                if message_length > MAX_MESSAGE or body_length > self._max_body:
                    raise Corrupt("a worker sent a frame larger than any answer")
                middle = position + HEAD.size + message_length
                if len(buffer) < middle + body_length:
                    break
                message = decode(bytes(buffer[position + HEAD.size : middle]))
                yield message, bytes(buffer[middle : middle + body_length])
                position = middle + body_length
        finally:
            del buffer[:position]


def decode(data: bytes) -> ToFront:
    """One message of a worker.

    Raises:
        Corrupt: it is none.

    """
    try:
        message: ToFront = to_front.decode(data)
        return message
    except msgspec.DecodeError as error:
        raise Corrupt(f"a worker sent what is no frame: {error}") from None
