"""``farshore watch`` against a real server with the detector that the project ships."""

from __future__ import annotations

import http.server
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from PIL import Image

from farshore.cli import world as worlds
from farshore.cli.watch import described
from farshore.cli.world import READY, Process, answers, free_port, wait_for

from .conftest import Shell

av = pytest.importorskip("av")

EXPECTED = json.loads((worlds.assets() / "pictures" / "expected.json").read_text())


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder, port = tmp_path_factory.mktemp("serve"), free_port()
    (folder / "m").mkdir()
    for name in ("detector.onnx", "labels.txt", "farshore.toml"):
        (folder / "m" / name).write_bytes((worlds.assets() / "v2" / name).read_bytes())
    process = Process(["serve", "--model", str(folder / "m"), "--port", str(port)], folder / "log")
    process.start()
    try:
        wait_for(lambda: answers(port, "/readyz"), READY, "the server", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.stop()


@pytest.fixture
def watch(server, monkeypatch, capsys):
    shell = Shell("", "", monkeypatch, capsys)
    return lambda *given, **environment: shell("watch", *given, FARSHORE_SERVER=server, **environment)


def scenes() -> list[bytes]:
    return [(worlds.assets() / "pictures" / f"scene-{number}.jpg").read_bytes() for number in (1, 2)]


def video_of(pictures: list[bytes]) -> bytes:
    """A video of these pictures, ten times each."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 640, 480, "yuv420p", 8_000_000
        for picture in pictures:
            image = av.VideoFrame.from_image(Image.open(io.BytesIO(picture)).convert("RGB"))
            for _ in range(10):
                container.mux(stream.encode(image))
        container.mux(stream.encode())
    return out.getvalue()


def classes(told: dict) -> set[str]:
    return {each["class"] for each in told["detections"] if each["score"] >= 0.5}


def test_a_videos_frames_are_answered_as_its_pictures_are(watch, tmp_path):
    path = tmp_path / "harbour.mp4"
    path.write_bytes(video_of(scenes()))
    (tmp_path / "stills").mkdir()
    for number, scene in enumerate(scenes(), 1):
        (tmp_path / "stills" / f"{number}.jpg").write_bytes(scene)
    status, out, err = watch(path, "--json", "--every", 10)
    frames = [json.loads(line) for line in out.splitlines()]
    assert (status, [frame["frame"] for frame in frames]) == (0, [1, 11])
    assert [frame["seconds"] for frame in frames] == [0.0, 1.0]
    assert {"model", "version", "digest", "detections"} <= frames[0].keys()
    status, out, _ = watch(tmp_path / "stills", "--json")
    stills = [json.loads(line) for line in out.splitlines()]
    truth = [{each["class"] for each in EXPECTED["answers"][f"scene-{number}.jpg"]} for number in (1, 2)]
    assert [classes(still) for still in stills] == truth
    assert [classes(frame) for frame in frames] == truth
    assert "2 frames, 2 answered, 0 not" in err


def test_lines_for_people_and_drawn_pictures(watch, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "scene.jpg").write_bytes(scenes()[0])
    (tmp_path / "in" / "wreck.jpg").write_bytes(b"\xff\xd8 no more than that")
    status, out, err = watch(tmp_path / "in", "--save", tmp_path / "out", "--threshold", 0.5, "--top", 1)
    first, second = out.splitlines()
    assert status == 0
    assert first.startswith("scene  ")
    assert any(name in first for name in ("ship", "buoy"))
    assert second.startswith("wreck  ")
    assert "JPEG" in second
    assert "1 answered, 1 not" in err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["scene.jpg"]
    drawn = Image.open(io.BytesIO((tmp_path / "out" / "scene.jpg").read_bytes()))
    assert drawn.size == Image.open(io.BytesIO(scenes()[0])).size


@pytest.mark.parametrize(
    ("given", "environment", "code", "words"),
    [
        (["nothing.mp4"], {}, 3, "no such file"),
        (["ftp://camera/a"], {}, 2, "rtsp, rtsps, http and https"),
        (["nothing.mp4"], {"FARSHORE_SERVER": "http://127.0.0.1:9"}, None, "no inference server at http://127.0.0.1:9"),
        (["PICTURE", "--model", "other"], {}, 3, "no model 'other'"),
        (["PICTURE", "--every", "0"], {}, 2, "--every"),
    ],
)
def test_what_cannot_be_is_one_line(server, monkeypatch, capsys, given, environment, code, words):
    shell = Shell("", "", monkeypatch, capsys)
    given = [str(worlds.assets() / "pictures" / "scene-1.jpg") if each == "PICTURE" else each for each in given]
    status, out, err = shell("watch", *given, **{"FARSHORE_SERVER": server, **environment})
    assert status == code if code is not None else status not in {0, 1}
    assert words in err
    assert "Traceback" not in err
    assert out == ""


class Busy(http.server.BaseHTTPRequestHandler):
    """Has no time for the first two, drops the third."""

    asked = 0

    def do_GET(self):
        self._say(200, {})

    def do_POST(self):
        Busy.asked += 1
        self.rfile.read(int(self.headers["Content-Length"]))
        if Busy.asked == 3:
            self.connection.close()
        elif Busy.asked < 3:
            self._say(503, {"error": {"code": "unavailable", "message": "busy"}})
        else:
            self._say(200, {"detections": [{"class": "bell\x07", "score": 0.5, "box": [1, 2, 3, 4]}]})

    def _say(self, status, told):
        body = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except (OSError, ValueError):
            self.close_connection = True


def test_a_server_that_is_busy_or_away_is_waited_for(monkeypatch, capsys):
    waited: list[float] = []
    monkeypatch.setattr("farshore.cli.watch.time.sleep", waited.append)
    busy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Busy)
    thread = threading.Thread(target=busy.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        shell = Shell("", "", monkeypatch, capsys)
        picture = worlds.assets() / "pictures" / "scene-1.jpg"
        status, out, err = shell("watch", picture, "--server", f"http://127.0.0.1:{busy.server_port}")
    finally:
        busy.shutdown()
        thread.join()
        busy.server_close()
    assert status == 0
    assert Busy.asked == 4
    assert waited == [1, 1, 1]
    assert err.count("busy; again in 1 s") == 2
    assert "no answer from" in err
    assert out.strip().endswith("bell· 0.50 [1 2 3 4]")


def test_ctrl_c_ends_it_with_a_summary(server, tmp_path):
    for number in range(200):
        (tmp_path / f"{number:03}.jpg").write_bytes(scenes()[0])
    process = subprocess.Popen(
        [sys.executable, "-m", "farshore.cli", "watch", str(tmp_path), "--server", server, "--fps", "20"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline().startswith("000  ")
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "answered" in err
    assert "Traceback" not in err
    assert len(out.splitlines()) < 199


def test_every_task_has_words():
    assert described({"detections": []}) == "nothing"
    one = {"class": "cat", "score": 0.5, "box": [1.4, 2, 3, 4]}
    assert described({"segments": [one]}) == "cat 0.50 [1 2 3 4]"
    assert described({"classes": [{"class": "a", "score": 0.25}, {"class": "b", "share": 1}]}) == "a 0.25, b 1.00"
    assert described({"poses": [{"score": 0.9, "keypoints": [1, 2]}]}) == "pose 0.90, 2 points"
    assert described({"picture": {"height": 2, "width": 3}}) == "a picture of 3 × 2"
    assert described({"outputs": {"y": {"dtype": "float32", "shape": [1, 2]}}}) == "y float32[1, 2]"
    assert described({"detections": [one] * 20}).endswith("and 12 more")
