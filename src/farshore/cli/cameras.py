"""Where frames come from: picture files, video files, and cameras that stream. Videos need PyAV (extra ``watch``); pictures nothing.

A file waits to be read; a camera does not. Of what streams, only the newest frame is kept, so that answers are about now, however
slow the server is, and a stream that breaks is opened again.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any, Self

from farshore.core.errors import Corrupt, Invalid, NotFound

PICTURES = {".jpg", ".jpeg", ".png", ".bmp"}
STREAMS = ("rtsp://", "rtsps://", "http://", "https://")
MAX_PAUSE = 30.0
"""Seconds between two attempts at most."""

MAX_PIXELS = 40_000_000
_SILENCE = 15.0
"""A stream that sends nothing for so many seconds is opened again."""

# What a playlist or a description may refer to: FFmpeg would otherwise follow it from a stream into this machine's files.
_FILE = {"protocol_whitelist": "file"}
_STREAM = {"protocol_whitelist": "rtsp,rtsps,rtp,srtp,udp,tcp,tls,crypto,http,https,httpproxy", "rtsp_transport": "tcp"}


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture to ask about.

    Attributes:
        number: from 1 on, as the source counts: also those that were left out.
        name: for a file that is made of it.
        seconds: since the video or the stream began; None for picture files.
        data: the bytes of a JPEG, PNG or BMP file.

    """

    number: int
    name: str
    seconds: float | None
    data: bytes


@dataclass(slots=True)
class Choice:
    """Which frames are taken.

    Args:
        every: each so many-th.
        fps: so many a second at most, of the source's own time; None sets no bound.

    """

    every: int = 1
    fps: float | None = None
    _next: float = 0.0

    def takes(self, number: int, seconds: float) -> bool:
        """Whether to take a frame.

        Args:
            number: from 1 on.
            seconds: the source's time, not falling.

        """
        if (number - 1) % self.every:
            return False
        if self.fps is None:
            return True
        if seconds < self._next - 1e-6:
            return False
        step = self._next + 1 / self.fps
        self._next = step if step > seconds else seconds + 1 / self.fps  # keeps the pace, does not hurry after a hole
        return True


def pause(attempt: int) -> float:
    """Seconds to wait after so many failures in a row: 1, 2, 4 … up to ``MAX_PAUSE``."""
    return min(MAX_PAUSE, 2.0 ** min(attempt - 1, 16))


def is_stream(source: str) -> bool:
    """Whether a source is a camera rather than files."""
    return source.startswith(STREAMS)


def of_files(path: Path, choice: Choice, wait: Callable[[float], object]) -> Iterator[Frame]:
    """The frames of a picture, a folder of pictures (by name), or a video, each once.

    Args:
        path: a file or folder.
        choice: which are taken; pictures have no time of their own, so that they are paced by the clock.
        wait: sleeps so many seconds.

    Raises:
        NotFound: there is nothing of that name.
        Invalid: a folder without pictures, or a file that is no video.
        Corrupt: a video breaks off.

    """
    if not path.exists():
        raise NotFound(f"{path}: there is no such file or folder")
    if path.is_dir():
        files = sorted(each for each in path.iterdir() if each.suffix.lower() in PICTURES and each.is_file())
        if not files:
            raise Invalid(f"{path}: no picture in this folder ({', '.join(sorted(PICTURES))})")
    elif path.suffix.lower() in PICTURES:
        files = [path]
    else:
        yield from _of_video(path, choice)
        return
    due = monotonic()
    for number, file in enumerate(files, 1):
        if (number - 1) % choice.every:
            continue
        if choice.fps is not None:
            wait(max(0.0, due - monotonic()))
            due = max(due + 1 / choice.fps, monotonic())
        yield Frame(number, file.stem, None, file.read_bytes())


def _of_video(path: Path, choice: Choice) -> Iterator[Frame]:
    import av

    try:
        container = av.open(str(path), options=_FILE)
    except (av.error.FFmpegError, OSError) as error:
        raise Invalid(f"{path}: no picture and no video that can be read: {_said(error)}") from None
    with container:
        number = 0
        try:
            for image in _images(container):
                number += 1
                seconds = image.time or 0.0
                if choice.takes(number, seconds):
                    yield Frame(number, f"{path.stem}-{number:06}", seconds, encoded(image))
        except av.error.FFmpegError as error:
            raise Corrupt(f"{path}: the video breaks off after frame {number}: {_said(error)}") from None


class Camera:
    """A stream, read in a thread of its own; a context.

    Args:
        url: beginning with one of ``STREAMS``.
        choice: which frames are taken, by the clock.
        tell: called with one line when the stream is lost.

    """

    def __init__(self, url: str, choice: Choice, tell: Callable[[str], object]) -> None:
        self._url, self._choice, self._tell = url, choice, tell
        self._news = threading.Condition()
        self._newest: tuple[int, float, Any] | None = None
        self._stop = threading.Event()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)

    def __enter__(self) -> Self:
        """Begin to read.

        Raises:
            ModuleNotFoundError: PyAV is not installed.

        """
        import av  # noqa: F401 - said here, not in the thread

        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(2.0)  # it may sit in a read that ends by itself; the process does not wait for it

    def frames(self) -> Iterator[Frame]:
        """The newest frame, whenever there is one that was not given yet; does not end by itself."""
        while True:
            with self._news:
                while self._newest is None and self._failed is None:
                    self._news.wait(0.5)  # in pieces, so that Ctrl-C is seen on every system
                if self._failed is not None:
                    raise self._failed
                assert self._newest is not None
                (number, seconds, image), self._newest = self._newest, None
            yield Frame(number, f"frame-{number:06}", seconds, encoded(image))

    def _run(self) -> None:
        try:
            self._read()
        except BaseException as error:  # noqa: BLE001 - raised again where the frames are taken
            with self._news:
                self._failed = error
                self._news.notify()

    def _read(self) -> None:
        import av

        number = failures = 0
        start = monotonic()
        while not self._stop.is_set():
            why = "it ended"
            try:
                with av.open(self._url, options=_STREAM, timeout=(_SILENCE, _SILENCE)) as container:
                    for image in _images(container):
                        if self._stop.is_set():
                            return
                        number, failures = number + 1, 0
                        seconds = monotonic() - start
                        if self._choice.takes(number, seconds):
                            with self._news:
                                self._newest = (number, seconds, image)
                                self._news.notify()
            except (av.error.FFmpegError, OSError, Invalid) as error:
                why = _said(error)
            failures += 1
            rest = pause(failures)
            self._tell(f"the stream is lost ({why}); opened again in {rest:g} s")
            self._stop.wait(rest)


def _images(container: Any) -> Iterator[Any]:
    """The decoded frames of the first video stream.

    Raises:
        Invalid: there is none, or its pictures are too large.

    """
    if not container.streams.video:
        raise Invalid("there is no picture in it, only sound or data")
    stream = container.streams.video[0]
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    stream.thread_type = "AUTO"
    yield from container.decode(stream)


def encoded(image: Any) -> bytes:
    """A decoded frame as a JPEG file; how the camera was turned goes into its EXIF orientation.

    Args:
        image: an ``av.VideoFrame``.

    """
    codec, clock = _codec(image.width, image.height)
    # JPEG means ITU-R BT.601 over the full range (JFIF 1.02); HD video is BT.709 in a narrower one.
    flat = image.reformat(format="yuvj420p", dst_colorspace="ITU601", dst_color_range="JPEG")
    flat.pts, flat.time_base = next(clock), codec.time_base  # a camera's own clock may jump, which encoders refuse
    (packet,) = codec.encode(flat)
    data = bytes(packet)
    turn = {90: 8, -90: 6, 180: 3, -180: 3}.get(image.rotation)  # degrees to turn back, counter-clockwise
    return data if turn is None else data[:2] + _orientation(turn) + data[2:]


@lru_cache(maxsize=4)
def _codec(width: int, height: int) -> tuple[Any, Iterator[int]]:
    """FFmpeg's own JPEG encoder, near its best quality, and a clock for it."""
    from fractions import Fraction

    import av

    codec = av.CodecContext.create("mjpeg", "w")
    codec.width, codec.height, codec.pix_fmt, codec.time_base = width, height, "yuvj420p", Fraction(1, 25)
    codec.options = {"qmin": "2", "qmax": "2"}
    return codec, count()


def _orientation(turn: int) -> bytes:
    """An EXIF segment with the tag Orientation alone (CIPA DC-008, §4.6.4)."""
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, turn, 0, 0)
    return b"\xff\xe1" + struct.pack(">H", 8 + len(tiff)) + b"Exif\0\0" + tiff


def _said(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or getattr(error, "message", None) or str(error)
    with suppress(IndexError):
        return str(text).splitlines()[0]
    return type(error).__name__
