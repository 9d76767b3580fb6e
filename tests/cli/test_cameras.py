"""Frames of files and streams. Videos are made here, a frame a colour, so that each can be told from its neighbours."""

from __future__ import annotations

import http.server
import io
import threading
from fractions import Fraction
from itertools import islice

import numpy as np
import pytest
from PIL import Image, ImageOps

from farshore.cli.cameras import Camera, Choice, encoded, is_stream, of_files, pause
from farshore.core.errors import Corrupt, Invalid, NotFound

av = pytest.importorskip("av")

COLOURS = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30)]


def video(count=8, rate=4, size=(64, 48), kind="mp4", codec="mpeg4") -> bytes:
    """A video whose frame ``i`` has the colour ``i`` modulo 4."""
    out = io.BytesIO()
    with av.open(out, "w", format=kind) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt, stream.bit_rate = "yuv420p", 2_000_000
        stream.codec_context.time_base = Fraction(1, rate)
        for number in range(count):
            plane = np.full((size[1], size[0], 3), COLOURS[number % 4], np.uint8)
            frame = av.VideoFrame.from_ndarray(plane, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return out.getvalue()


def colour_of(data: bytes) -> int:
    """Which of the colours a picture has."""
    mean = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).reshape(-1, 3).mean(0)
    return int(np.abs(np.array(COLOURS) - mean).sum(1).argmin())


def nobody_waits(seconds):
    raise AssertionError("a video has a time of its own")


def test_a_videos_frames_in_their_order(tmp_path):
    path = tmp_path / "street.mp4"
    path.write_bytes(video())
    frames = list(of_files(path, Choice(), nobody_waits))
    assert [frame.number for frame in frames] == list(range(1, 9))
    assert [colour_of(frame.data) for frame in frames] == [0, 1, 2, 3, 0, 1, 2, 3]
    assert [frame.seconds for frame in frames] == pytest.approx([number / 4 for number in range(8)])
    assert frames[2].name == "street-000003"


@pytest.mark.parametrize(
    ("choice", "numbers"),
    [({"every": 3}, [1, 4, 7]), ({"fps": 2}, [1, 3, 5, 7]), ({"fps": 100}, [1, 2, 3, 4, 5, 6, 7, 8])],
)
def test_some_of_a_videos_frames(tmp_path, choice, numbers):
    path = tmp_path / "a.mp4"
    path.write_bytes(video())
    assert [frame.number for frame in of_files(path, Choice(**choice), nobody_waits)] == numbers


def test_the_pace_is_kept_and_a_hole_is_not_made_up_for():
    choice = Choice(fps=10)
    taken = [at for at in range(0, 1000, 40) if choice.takes(1, at / 1000)]
    assert len(taken) == 10
    assert choice.takes(1, 50.0)
    assert not choice.takes(1, 50.05)
    assert choice.takes(1, 50.1)


def test_colours_survive(tmp_path):
    """JPEG has its own idea of colour (BT.601, full range); red stays red."""
    plane = np.full((48, 64, 3), (220, 40, 10), np.uint8)
    frame = av.VideoFrame.from_ndarray(plane, format="rgb24").reformat(format="yuv420p", dst_colorspace="ITU709")
    pixels = np.asarray(Image.open(io.BytesIO(encoded(frame))).convert("RGB")).astype(int)
    assert np.abs(pixels - (220, 40, 10)).max() <= 4


# The matrix of an MP4's track header (ISO/IEC 14496-12, §8.3.2), as telephones write it when they are held upright.
UPRIGHT = (0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
MATRICES = {90: (0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000), 180: (-0x10000, 0, 0, 0, -0x10000, 0, 0, 0, 0x40000000),
            270: (0, -0x10000, 0, 0x10000, 0, 0, 0, 0, 0x40000000)}  # fmt: skip


@pytest.mark.parametrize("clockwise", MATRICES)
def test_a_turned_camera_is_told_by_exif(tmp_path, clockwise):
    def matrix(values):
        return b"".join(value.to_bytes(4, "big", signed=True) for value in values)

    out = io.BytesIO()
    plane = np.zeros((48, 64, 3), np.uint8)
    plane[:24, :32] = 250  # light in the upper left, as the sensor has it
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=4)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(plane, format="rgb24")))
        container.mux(stream.encode())
    data = out.getvalue()
    place = data.index(b"tkhd")
    at = data.index(matrix(UPRIGHT), place)
    path = tmp_path / "a.mp4"
    path.write_bytes(data[:at] + matrix(MATRICES[clockwise]) + data[at + 36 :])
    (frame,) = of_files(path, Choice(), nobody_waits)
    seen = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(frame.data))).convert("L")) > 128
    truth = np.rot90(plane[:, :, 0] > 128, -clockwise // 90)
    assert seen.shape == truth.shape
    assert (seen == truth).mean() > 0.97


def test_a_folders_pictures_by_name_at_a_pace(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("farshore.cli.cameras.monotonic", lambda: now[0])
    for name in ("b.png", "a.JPG", "c.bmp", "notes.txt"):
        (tmp_path / name).write_bytes(name.encode())
    waits: list[float] = []

    def wait(seconds):
        waits.append(seconds)
        now[0] += seconds

    frames = []
    for frame in of_files(tmp_path, Choice(fps=5), wait):
        frames.append((frame.number, frame.name, frame.data))
        now[0] += 0.05 if frame.number == 1 else 0.5  # the server's time: less than the pace, then more
    assert frames == [(1, "a", b"a.JPG"), (2, "b", b"b.png"), (3, "c", b"c.bmp")]
    assert waits == pytest.approx([0, 0.15, 0])
    assert [frame.name for frame in of_files(tmp_path, Choice(every=2), nobody_waits)] == ["a", "c"]
    assert [frame.name for frame in of_files(tmp_path / "b.png", Choice(), nobody_waits)] == ["b"]


def test_what_cannot_be_watched_is_told(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing to see")
    (tmp_path / "empty").mkdir()
    for path, error in ((tmp_path / "no", NotFound), (tmp_path / "empty", Invalid), (tmp_path / "notes.txt", Invalid)):
        with pytest.raises(error):
            list(of_files(path, Choice(), nobody_waits))
    out = io.BytesIO()
    with av.open(out, "w", format="wav") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        sound.rate = 8000
        container.mux(stream.encode(sound))
    (tmp_path / "sound.wav").write_bytes(out.getvalue())
    with pytest.raises(Invalid, match="only sound"):
        list(of_files(tmp_path / "sound.wav", Choice(), nobody_waits))


@pytest.mark.parametrize("url", ["rtsp://a/b", "rtsps://a", "http://a", "https://a"])
def test_streams(url):
    assert is_stream(url)
    assert not is_stream("./" + url)


def test_pauses_grow_up_to_a_bound():
    assert [pause(attempt) for attempt in (1, 2, 3, 5, 6, 1000)] == [1, 2, 4, 16, 30, 30]


class Station(http.server.BaseHTTPRequestHandler):
    """A camera over HTTP: each connection gets a short stream, which then breaks off; the second is refused."""

    served: list[int]
    answer = b""

    def do_GET(self):
        type(self).served.append(1)
        if len(type(self).served) == 2:
            self.send_error(503)
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.answer or video(40, rate=25, kind="mpegts", codec="mpeg2video")[:-200])

    def log_message(self, *_):
        pass


@pytest.fixture
def station():
    kind = type("Here", (Station,), {"served": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", kind
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_stream_that_breaks_is_opened_again(station, monkeypatch):
    monkeypatch.setattr("farshore.cli.cameras.pause", lambda attempt: 0.01 * attempt)
    url, kind = station
    told: list[str] = []
    with Camera(url, Choice(), told.append) as camera:
        seen = []
        for frame in camera.frames():
            seen.append(frame)
            if len(kind.served) >= 4:
                break
    assert [frame.number for frame in seen] == sorted({frame.number for frame in seen})
    assert all(0 <= colour_of(frame.data) <= 3 for frame in seen)
    assert len(told) >= 3
    assert all(line.startswith("the stream is lost (") for line in told)
    assert "0.02 s" in told[1]  # the refused one was the second failure in a row


def test_of_a_stream_only_the_newest_frame_is_kept(station):
    """Whoever takes long is not told about the past."""
    url, _ = station
    lost = threading.Event()
    with Camera(url, Choice(), lambda line: lost.set()) as camera:
        assert lost.wait(30)  # all of the first stream has gone by
        (frame,) = islice(camera.frames(), 1)
    assert frame.number > 30


def test_a_playlist_does_not_lead_elsewhere(station, tmp_path):
    """What is read is what was named: a file's playlist opens no connection, a stream's no file."""
    url, kind = station
    (tmp_path / "a.m3u8").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{url}x.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises((Invalid, Corrupt)):
        list(of_files(tmp_path / "a.m3u8", Choice(), nobody_waits))
    assert kind.served == []
    secret = tmp_path / "secret.ts"
    secret.write_bytes(video(kind="mpegts", codec="mpeg2video"))
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:2,\nfile://{secret}\n#EXT-X-ENDLIST\n".encode()
    kind.answer = playlist
    lost = threading.Event()
    with Camera(url + "a.m3u8", Choice(), lambda line: lost.set()) as camera:
        assert lost.wait(30)
        assert camera._newest is None
