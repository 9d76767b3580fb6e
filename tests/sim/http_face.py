"""The simulated hub's device API over real HTTP on a free port, with manners as bad as a test wants them."""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import msgspec
from tests.sim.hub import SimHub

from farshore.core.errors import FarshoreError
from farshore.core.wire import ChallengeRequest, EnrolRequest, RenewRequest, SyncRequest, TicketRequest

Answer = tuple[int, dict[str, str], bytes]


class HttpFace:
    """Serves ``hub`` while inside the ``with``.

    Attributes:
        spoil: called with (path, answer) for each answer; what it returns is sent instead.
        seen: (method, path, headers) of every request.

    """

    def __init__(self, hub: SimHub) -> None:
        self.hub = hub
        self.spoil: Callable[[str, Answer], Answer] = lambda _path, answer: answer
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self._lock = threading.Lock()
        face = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer(b"")

            def do_POST(self) -> None:
                self._answer(self.rfile.read(int(self.headers["Content-Length"])))

            def _answer(self, body: bytes) -> None:
                with face._lock:
                    face.seen.append((self.command, self.path, dict(self.headers)))
                    status, headers, data = face.spoil(self.path, face._handle(self.path, dict(self.headers), body))
                self.send_response(status)
                for name, value in {"Content-Length": str(len(data)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                try:
                    self.wfile.write(data)
                except OSError:
                    self.close_connection = True

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handle(self, path: str, headers: dict[str, str], body: bytes) -> Answer:
        credential = headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            if path.startswith("/objects/"):
                return self._object(path, headers.get("Range"))
            if path.startswith("/device/v1/manifests/"):
                return 200, {}, self.hub.manifest(credential, path.rsplit("/", 1)[1])
            doors: dict[str, Callable[[], Any]] = {
                "/device/v1/enrol": lambda: self.hub.enrol(msgspec.json.decode(body, type=EnrolRequest)),
                "/device/v1/challenge": lambda: self.hub.challenge(msgspec.json.decode(body, type=ChallengeRequest)),
                "/device/v1/renew": lambda: self.hub.renew(msgspec.json.decode(body, type=RenewRequest)),
                "/device/v1/sync": lambda: self.hub.sync(credential, msgspec.json.decode(body, type=SyncRequest)),
                "/device/v1/tickets": lambda: self.hub.tickets(
                    credential, msgspec.json.decode(body, type=TicketRequest)
                ),
            }
            return (200, {"Content-Type": "application/json"}, msgspec.json.encode(doors[path]()))
        except FarshoreError as error:
            return json_answer(error.status, {"error": {"code": error.code, "message": error.message}})

    def _object(self, path: str, asked: str | None) -> Answer:
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked else 0
        data, total = self.hub.object(path, start)
        if not asked:
            return 200, {}, data
        return 206, {"Content-Range": f"bytes {start}-{total - 1}/{total}"}, data


def json_answer(status: int, value: Any, *, zipped: bool = False) -> Answer:
    data = json.dumps(value).encode()
    headers = {"Content-Type": "application/json"}
    return (status, {**headers, "Content-Encoding": "gzip"}, gzip.compress(data)) if zipped else (status, headers, data)
