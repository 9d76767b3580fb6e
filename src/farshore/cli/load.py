"""Requests at a steady pace, and what became of each: how demonstrations know that nothing failed."""

from __future__ import annotations

import http.client
import json
import threading
import time
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Self

from farshore.core.errors import Unavailable


@dataclass(frozen=True, slots=True)
class Answer:
    """One request: when it was answered (monotonic seconds), how long it took, its status and the version that answered."""

    at: float
    seconds: float
    status: int
    version: int


@dataclass(slots=True)
class Load:
    """Clients that post one picture after another to a server, in a ``with``.

    Args:
        port: of the inference server on this machine.
        picture: JPEG bytes.
        clients: how many at a time.
        pace: seconds from one request of a client to its next.

    """

    port: int
    picture: bytes
    clients: int = 2
    pace: float = 0.07
    answers: list[Answer] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(self.clients)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    @property
    def failed(self) -> int:
        return sum(answer.status != 200 for answer in self.answers)

    def longest_gap(self, since: float, until: float) -> float:
        """Longest time between two successive answers in that span, in seconds."""
        times = sorted(answer.at for answer in self.answers if answer.status == 200 and since <= answer.at <= until)
        return max((later - earlier for earlier, later in pairwise(times)), default=0.0)

    def switched_at(self, version: int) -> float | None:
        """When ``version`` first answered."""
        return min((answer.at for answer in self.answers if answer.version == version), default=None)

    def _run(self) -> None:
        while not self._stop.is_set():
            begun = time.monotonic()
            status, body = score(self.port, self.picture)
            now = time.monotonic()
            self.answers.append(Answer(now, now - begun, status, int(body.get("version", 0))))
            self._stop.wait(max(0.0, self.pace - (now - begun)))


def score(port: int, picture: bytes, path: str = "/score", timeout: float = 30.0) -> tuple[int, dict[str, Any]]:
    """Post a picture; status (0 when no answer came) and the JSON answer."""
    try:
        status, body = _post(port, picture, path, timeout)
        return status, json.loads(body)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return 0, {"error": {"code": "unavailable", "message": str(error)}}


def drawn(port: int, picture: bytes) -> bytes:
    """Post a picture; the same as JPEG with what was found drawn on it.

    Raises:
        Unavailable: the server does not answer with a picture.

    """
    try:
        status, body = _post(port, picture, "/score", 30.0, {"Accept": "image/jpeg"})
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(f"the server at port {port} does not answer: {error}") from None
    if status != 200:
        raise Unavailable(f"the server at port {port} answers {status}: {body[:200].decode('utf-8', 'replace')}")
    return body


def _post(
    port: int, picture: bytes, path: str, timeout: float, headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("POST", path, picture, {"Content-Type": "image/jpeg", **(headers or {})})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
