"""The client against a real hub, and against what is not one."""

import http.server
import io
import threading

import pytest

from farshore.cli.world import READY, Process, answers, free_port, wait_for
from farshore.client import Hub
from farshore.core.errors import Conflict, Corrupt, FarshoreError, Invalid, NotFound, Unauthenticated, Unavailable


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    folder, port = tmp_path_factory.mktemp("hub"), free_port()
    process = Process(["hub", "--data", str(folder / "data"), "--port", str(port)], folder / "log")
    process.start()
    try:
        wait_for(lambda: answers(port, "/healthz"), READY, "the hub", process)
        yield Hub(f"http://127.0.0.1:{port}", (folder / "data" / "admin.token").read_text().strip())
    finally:
        process.stop()


class Answering(http.server.BaseHTTPRequestHandler):
    """Says what the test wants said."""

    status, body = 200, b""

    def do_GET(self):
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_):
        pass


@pytest.fixture
def stranger():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}", Answering
        running.shutdown()


def test_pages_are_followed_to_the_end(hub, monkeypatch):
    monkeypatch.setattr("farshore.client.wire.PAGE", 2)
    for number in range(5):
        hub.create_enrolment(f"paged-{number}")
    assert len(hub.enrolments()) >= 5
    assert list(hub.devices()) == []
    assert list(hub.models()) == []


def test_deployments_and_twins(hub):
    with pytest.raises(NotFound):
        hub.put_deployment("d", model="nothing@1", selector="*")
    with pytest.raises(NotFound):
        hub.twin("nobody")
    with pytest.raises(NotFound):
        hub.delete_deployment("d")
    assert hub.deployments() == []


def test_refs_are_checked_before_they_are_sent(hub):
    for bad in ("", "@1", "name@"):
        with pytest.raises(Invalid):
            hub.version(bad)
    with pytest.raises(Invalid, match="bad alias"):
        hub.version("name@../../v1/tokens")


def test_a_wrong_token_and_a_bad_address(hub):
    with pytest.raises(Unauthenticated):
        list(Hub(hub.url, "wrong-token-0123456789").models())
    with pytest.raises(Invalid):
        Hub("hub.example", "t")
    with pytest.raises(Unavailable, match="no hub answers"):
        list(Hub("http://127.0.0.1:9", "t").models())


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, b"<html>", Unavailable),
        (502, b"<html>bad gateway", Unavailable),
        (500, b'{"error": 1}', Unavailable),
        (409, b'{"error": {"code": "conflict", "message": "why"}}', Conflict),
        (418, b'{"error": {"code": "teapot", "message": "short"}}', FarshoreError),
        (404, b"", NotFound),
        (302, b"", Unavailable),
    ],
)
def test_what_is_not_a_hub_is_said_to_be_none(stranger, status, body, kind):
    url, handler = stranger
    handler.status, handler.body = status, body
    with pytest.raises(kind):
        Hub(url, "t").model("m")


def test_pulled_bytes_that_are_others_are_refused(stranger):
    url, handler = stranger
    handler.status, handler.body = 200, b"other bytes"
    sink = io.BytesIO()
    with pytest.raises(Corrupt):
        Hub(url, "t").pull("m@1", "model.onnx", "sha256:" + "0" * 64, sink, lambda _: None)
