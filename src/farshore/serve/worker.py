"""A worker: a process that holds one version and answers pictures with it.

The front starts ``python -m farshore.serve.worker FD PARENT ADDRESS_SPACE NICENESS`` with one end of a socket pair. A worker is
shut in before it loads a model (:mod:`farshore.serve.sandbox`), and ends when the front does. The main thread reads frames; as
many threads as the front says answer them, one request each.
"""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import sys
import threading
import time
import traceback
from collections import deque
from pathlib import Path

from farshore.core.digest import Digest
from farshore.core.errors import FarshoreError, Invalid, Unavailable
from farshore.serve import frames, limits, sandbox
from farshore.serve.frames import (
    Answer,
    Cancel,
    Check,
    Checked,
    Compare,
    Compared,
    Failed,
    Infer,
    Lead,
    Load,
    Ready,
    Score,
    ToFront,
    ToWorker,
)
from farshore.serve.tasks.subject import Want
from farshore.serve.version import LoadedVersion
from farshore.store.slots import Slots


class Worker:
    """The worker's side of the socket pair.

    Args:
        door: connected to the front.
        niceness: what was given up until traffic comes; 0 for nothing.

    """

    def __init__(self, door: socket.socket, niceness: int) -> None:
        self._door = door
        self._niceness = niceness
        self._sending = threading.Lock()
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Score | Infer | Check, bytes]] = deque()
        self._running = 0
        self._version: LoadedVersion | None = None
        self._unseen: queue.SimpleQueue[tuple[Compare, bytes]] | None = None  # made with the first

    def run(self) -> None:
        """Serve until the front closes the pair."""
        while (frame := self._receive()) is not None:
            message, body = frame
            match message:
                case Load():
                    if not self._load(message):
                        return
                case Score() | Infer() | Check():
                    with self._changed:
                        self._waiting.append((message, body))
                        self._changed.notify()
                case Compare():
                    self._shadow(message, body)
                case Cancel():
                    with contextlib.suppress(OSError):  # the front is gone, which the next frame will tell
                        if self._skip(message.id):
                            self._send(Answer(message.id, Unavailable.status))
                case Lead():
                    if self._niceness:
                        limits.stand_up(self._niceness)
                        self._niceness = 0

    def _skip(self, number: int) -> bool:
        """Whether that request had not begun, and never will."""
        with self._changed:
            before = len(self._waiting)
            self._waiting = deque(entry for entry in self._waiting if entry[0].id != number)
            return len(self._waiting) < before

    def _load(self, order: Load) -> bool:
        start = time.monotonic()
        models = Slots(Path(order.root)).folder
        for lacking in sandbox.enter(models):
            print(f"a worker is not held by all that could hold it; {lacking}", file=sys.stderr)  # noqa: T201 - its log
        try:
            self._version = LoadedVersion(
                Path(order.root),
                order.model,
                Digest(order.digest),
                order.threads,
                order.max_pixels,
                crowded=order.crowded,
                tuned=order.tuned,
            )
        except FarshoreError as error:
            self._send(Failed(error.code, error.message[:1024]))
            return False
        except MemoryError:
            self._send(Failed(Unavailable.code, "not enough memory to load it"))
            return False
        except Exception as error:  # noqa: BLE001 - whatever a library makes of a strange model: it will do so again
            traceback.print_exc()
            self._send(Failed(Invalid.code, f"it cannot be loaded ({type(error).__name__}: {error})"[:1024]))
            return False
        for number in range(self._version.width):
            threading.Thread(target=self._answer_all, name=f"answer-{number}", daemon=True).start()
        self._send(Ready(time.monotonic() - start, self._version.width))
        return True

    def _answer_all(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                message, body = self._waiting.popleft()
                self._running += 1
                alone = self._running == 1 and not self._waiting
            try:
                told = self._answer(message, body, alone)
            finally:
                # Before it is told: whoever asks again at once is alone.
                with self._changed:
                    self._running -= 1
            try:
                self._send(*told)
            except OSError:
                return  # the front is gone

    def _answer(self, message: Score | Infer | Check, body: bytes, alone: bool) -> tuple[ToFront, bytes]:
        assert self._version is not None
        if isinstance(message, Check):
            return Checked(message.id, self._version.check()), b""
        try:
            head = None
            if isinstance(message, Infer):
                answer, stages, head = self._version.infer(body, message.head, alone=alone)
            else:
                want = Want(message.threshold, message.top)
                answer, stages = self._version.answer(body, want, alone=alone, draw=message.draw)
            if len(answer) > frames.MAX_ANSWER:
                raise Invalid(f"the answer is larger than {frames.MAX_ANSWER} bytes: ask for less at once")
        except FarshoreError as error:
            return Answer(message.id, error.status), frames.error_body(error)
        except MemoryError:
            return _failed(message.id, "not enough memory for this request")
        except Exception as error:  # noqa: BLE001 - whatever a hostile picture or model made a library raise
            # This request has no answer; the next one may.
            traceback.print_exc()
            return _failed(message.id, f"the model failed on this request ({type(error).__name__})")
        return Answer(message.id, 200, stages, head), answer

    def _shadow(self, message: Compare, body: bytes) -> None:
        """Leave it to a thread of its own, which everything else goes before; the front sends few at once."""
        if self._unseen is None:
            self._unseen = queue.SimpleQueue()
            threading.Thread(target=self._compare_all, args=(self._unseen,), name="shadow", daemon=True).start()
        self._unseen.put((message, body))

    def _compare_all(self, unseen: queue.SimpleQueue[tuple[Compare, bytes]]) -> None:
        limits.stand_last()
        while True:
            message, body = unseen.get()
            try:
                self._send(self._compare(message, body))
            except OSError:
                return  # the front is gone

    def _compare(self, message: Compare, body: bytes) -> Compared:
        assert self._version is not None
        view = memoryview(body)
        picture, told = bytes(view[: message.picture]), bytes(view[message.picture :])
        try:
            share, before, after = self._version.compare(picture, told, Want(message.threshold, message.top))
            return Compared(message.id, 200, share, tuple(before), tuple(after))
        except FarshoreError as error:
            return Compared(message.id, error.status)
        except MemoryError:
            return Compared(message.id, Unavailable.status)
        except Exception:  # noqa: BLE001 - as in :meth:`_answer`
            traceback.print_exc()
            return Compared(message.id, Unavailable.status)

    def _send(self, message: ToFront, body: bytes = b"") -> None:
        head = frames.head(message, len(body))
        with self._sending:
            self._door.sendall(head + body if len(body) < 1 << 16 else head)
            if len(body) >= 1 << 16:
                self._door.sendall(body)

    def _receive(self) -> tuple[ToWorker, bytes] | None:
        head = self._exactly(frames.HEAD.size)
        if head is None:
            return None
        message_length, body_length = frames.HEAD.unpack(head)
        message, body = self._exactly(message_length), self._exactly(body_length)
        if message is None or body is None:
            return None
        return frames.to_worker.decode(message), body

    def _exactly(self, length: int) -> bytes | None:
        """That many bytes; None if the front closed the pair."""
        if not length:
            return b""
        buffer = bytearray(length)
        view, done = memoryview(buffer), 0
        while done < length:
            try:
                count = self._door.recv_into(view[done:])
            except ConnectionResetError:
                return None
            if not count:
                return None
            done += count
        return bytes(buffer)


def _failed(number: int, why: str) -> tuple[Answer, bytes]:
    return Answer(number, Unavailable.status), frames.error_body(Unavailable(why))


def main() -> None:
    """Be a worker."""
    fd, parent, address_space, niceness = (int(argument) for argument in sys.argv[1:5])
    limits.tie_to_parent(parent)
    limits.confine(address_space)
    with socket.socket(fileno=fd) as door:
        Worker(door, limits.stand_back(niceness)).run()
    # Threads may still compute for nobody; native code is not to be waited for, and nothing here needs cleaning up.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
