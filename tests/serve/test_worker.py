"""A worker process by itself, spoken to in frames."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager

from farshore.serve import frames
from farshore.serve.frames import Answer, Cancel, Check, Checked, Failed, Lead, Load, Reader, Ready, Score
from farshore.serve.version import LoadedVersion
from farshore.serve.worker import Worker

from .conftest import Device, picture, trap_model


class Talk:
    def __init__(self, door: socket.socket, process: subprocess.Popen) -> None:
        self.door, self.process = door, process
        self._reader, self._ready = Reader(), []

    def say(self, message, body: bytes = b"") -> None:
        self.door.sendall(frames.head(message, len(body)) + body)

    def hear(self):
        while not self._ready:
            data = self.door.recv(1 << 16)
            if not data:
                return None
            self._ready += self._reader.feed(data)
        return self._ready.pop(0)


@contextmanager
def worker(address_space: int = 0):
    ours, theirs = socket.socketpair()
    ours.settimeout(60)
    command = [
        sys.executable,
        "-m",
        "farshore.serve.worker",
        str(theirs.fileno()),
        str(os.getpid()),
        str(address_space),
        "0",
    ]
    process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
    theirs.close()
    try:
        yield Talk(ours, process)
    finally:
        ours.close()
        assert process.wait(30) is not None


def load(device: Device, digest: str, threads: int = 1) -> Load:
    return Load(str(device.root), "colours", digest, threads, 1 << 20)


def test_a_conversation(device: Device) -> None:
    red = picture((255, 51, 0))
    digest = device.colours(
        3, cases=(device.case(red, {"classes": [{"class": "red3"}]}, "good"), device.case(red, {"poses": []}, "bad"))
    )
    with worker() as talk:
        talk.say(load(device, digest))
        message, _ = talk.hear()
        assert isinstance(message, Ready)
        assert message.seconds > 0
        talk.say(Lead())
        talk.say(Score(1, None, 1), red)
        message, body = talk.hear()
        assert (type(message), message.id, message.status) == (Answer, 1, 200)
        assert json.loads(body)["classes"] == [{"class": "red3", "score": 1.0}]
        assert len(message.stages) == 3
        talk.say(Score(2), b"nonsense")
        message, body = talk.hear()
        assert (message.id, message.status, json.loads(body)["error"]["code"]) == (2, 400, "invalid")
        talk.say(Check(3))
        message, _ = talk.hear()
        assert isinstance(message, Checked)
        assert [(case.name, case.ok) for case in message.cases] == [("good", True), ("bad", False)]
    assert talk.process.returncode == 0, "it ends when the front closes"


def test_what_it_cannot_load_it_says_and_ends(device: Device) -> None:
    digest = device.colours(1, data=b"garbage")
    with worker() as talk:
        talk.say(load(device, digest))
        message, _ = talk.hear()
        assert isinstance(message, Failed)
        assert (message.code, "\n" in message.message) == ("invalid", False)
        assert talk.hear() is None


def test_cancelled_requests_are_not_computed(device: Device) -> None:
    digest = device.colours(1, data=trap_model(), size=8)
    with worker() as talk:
        talk.say(load(device, digest))
        talk.hear()
        talk.say(Score(1), picture((9, 9, 9)))
        talk.hear()
        # The only thread computes for ever on the first; the others wait behind it.
        talk.say(Score(2), picture((0, 0, 255)))
        talk.say(Score(3), picture((9, 9, 9)))
        talk.say(Cancel(3))
        over, _ = talk.hear()
        assert (over.id, over.status) == (3, 503), "told at once: nothing of it was begun"
        talk.say(Cancel(2))  # it runs: its answer would tell that it is over
        talk.door.settimeout(0.3)
        try:
            heard = talk.hear()
        except TimeoutError:
            heard = "nothing"
        assert heard == "nothing"


def test_it_ends_with_the_front_even_in_mid_computation(device: Device) -> None:
    digest = device.colours(1, data=trap_model(), size=8)
    with worker() as talk:
        talk.say(load(device, digest))
        talk.hear()
        talk.say(Score(1), picture((0, 0, 255)))


def test_a_case_that_cannot_be_judged_is_missed_and_the_worker_goes_on(device: Device) -> None:
    """What a case expects is whatever its author wrote: a box of one number must not end the only thread that answers."""
    red = picture((255, 51, 0))
    expect = {"classes": [{"class": "red1", "box": [1]}]}
    digest = device.colours(1, cases=(device.case(red, expect, "odd"),))
    with worker() as talk:
        talk.say(load(device, digest))
        assert isinstance(talk.hear()[0], Ready)
        talk.door.settimeout(20)
        talk.say(Check(1))
        message, _ = talk.hear()
        assert isinstance(message, Checked)
        assert [(case.name, case.ok) for case in message.cases] == [("odd", False)]
        assert "IndexError" in message.cases[0].why
        talk.say(Score(2), red)
        assert talk.hear()[0].status == 200


def test_who_asks_one_after_the_other_is_alone(device: Device) -> None:
    """The answer must not be told before the request is over: the next one would count as a second at once."""
    ours, theirs = socket.socketpair()
    ours.settimeout(60)
    worker, seen = Worker(theirs, 0), []

    class Watched(LoadedVersion):
        def answer(self, *given, alone: bool, **named):
            seen.append(alone)
            return super().answer(*given, alone=alone, **named)

    worker._version = Watched(device.root, "colours", device.colours(1), 2, 1 << 20)
    for _ in range(2):
        threading.Thread(target=worker._answer_all, daemon=True).start()
    reader = threading.Thread(target=worker.run)
    reader.start()
    talk, red = Talk(ours, None), picture((255, 51, 0))
    for number in range(200):
        talk.say(Score(number), red)
        assert talk.hear()[0].status == 200
    ours.close()
    reader.join()
    theirs.close()
    assert seen == [True] * 200
