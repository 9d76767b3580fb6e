"""Requests at a pace, and what became of each."""

import http.server
import json
import threading
import time

import pytest

from farshore.cli.load import Answer, Load, drawn, score
from farshore.core.errors import Unavailable


@pytest.fixture
def server():
    class Handler(http.server.BaseHTTPRequestHandler):
        version = 1

        def do_POST(self):
            size = int(self.headers["Content-Length"])
            bad = self.rfile.read(size) == b"bad"
            body = json.dumps({"version": Handler.version}).encode()
            self.send_response(400 if bad else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running.server_address[1], Handler
        running.shutdown()


def test_every_request_is_remembered_with_its_version(server):
    port, handler = server
    with Load(port, b"picture", clients=2, pace=0.01) as load:
        while len(load.answers) < 6:
            time.sleep(0.01)
        handler.version = 2
        while load.switched_at(2) is None:
            time.sleep(0.01)
    assert load.failed == 0
    assert {answer.version for answer in load.answers} == {1, 2}
    assert load.switched_at(1) < load.switched_at(2)


def test_failures_count_also_when_nobody_answers(server):
    port, _ = server
    with Load(port, b"bad", clients=1, pace=0.01) as load:
        while len(load.answers) < 3:
            time.sleep(0.01)
    assert load.failed == len(load.answers)
    assert score(9, b"")[0] == 0


def test_the_longest_gap_is_between_answers_in_the_span():
    load = Load(0, b"")
    load.answers += [Answer(at, 0.1, 200, 1) for at in (0.0, 1.0, 1.5, 4.0, 4.2)] + [Answer(3.0, 0.1, 503, 0)]
    assert load.longest_gap(0.5, 4.5) == 2.5
    assert load.longest_gap(0.0, 1.6) == 1.0
    assert load.longest_gap(10, 11) == 0.0


def test_a_drawn_picture_comes_back_or_the_reason_why_not(server):
    port, _ = server
    assert json.loads(drawn(port, b"picture"))["version"] >= 1
    for where, what in ((port, b"bad"), (9, b"picture")):
        with pytest.raises(Unavailable, match=f"port {where}"):
            drawn(where, what)
