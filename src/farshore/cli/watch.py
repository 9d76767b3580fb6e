"""``farshore watch``: post a camera's frames, a video's or a folder's pictures to an inference server, and show its answers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click
import urllib3

from farshore.cli.cameras import MAX_PAUSE, Camera, Choice, Frame, is_stream, of_files, pause
from farshore.core.errors import FarshoreError, Invalid, NotFound, Unavailable, from_code
from farshore.store import files

MAX_SHOWN = 8
"""Findings on a line."""


@click.command()
@click.argument("source")
@click.option(
    "--server",
    default="http://127.0.0.1:8000",
    show_default=True,
    envvar="FARSHORE_SERVER",
    help="Where pictures are answered.",
)
@click.option("--model", help="Which model answers.  [default: the only one]")
@click.option("--threshold", type=click.FloatRange(0, 1), help="Least score.  [default: the model's]")
@click.option("--top", type=click.IntRange(1, 1000), help="Most findings of a frame.")
@click.option("--fps", type=click.FloatRange(0, 1000, min_open=True), help="Frames a second at most.  [default: all]")
@click.option("--every", type=click.IntRange(1), default=1, show_default=True, help="Take each so many-th frame.")
@click.option("--save", type=click.Path(path_type=Path), help="Folder for pictures with what was found drawn on them.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a line.")
def watch(
    source: str, server: str, model: str | None, threshold: float | None, top: int | None, fps: float | None, every: int,
    save: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Show what a model sees in SOURCE: a camera's URL, a video, a picture, or a folder of pictures.

    \b
    farshore watch rtsp://camera.local/stream --fps 2
    farshore watch ./pictures --save ./drawn
    farshore watch street.mp4 --every 10 --json

    Of a camera only the newest frame is asked about; a stream that breaks is opened again, and a server that is away is waited for.
    Ctrl-C ends it. Videos and cameras need PyAV: pip install 'farshore[watch]'.
    """
    wishes = {
        name: value for name, value in (("model", model), ("threshold", threshold), ("top", top)) if value is not None
    }
    door = Door(server, wishes)
    door.greet()
    show = _as_json if as_json else _as_line
    seen = Seen()
    live = is_stream(source)
    try:
        with _frames(source, Choice(every, fps)) as frames:
            for frame in frames:
                answer = door.ask(frame.data) if live else patiently(lambda frame=frame: door.ask(frame.data))  # type: ignore[misc]
                seen.count(answer)
                click.echo(show(frame, answer))
                if save is not None and answer.status == 200:
                    _save(save / f"{frame.name}.jpg", door.draw(frame.data))
                if live and answer.status == Unavailable.status:
                    time.sleep(answer.wait)
    finally:
        click.echo(seen.told(), err=True)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said to one frame.

    Attributes:
        status: HTTP's; 503 also where no server answered.
        told: the answer's JSON.
        seconds: it took.
        wait: seconds that it asks to be left alone.

    """

    status: int
    told: dict[str, Any]
    seconds: float = 0.0
    wait: float = 1.0


class Door:
    """A server's ``/score``, over one connection that stays open.

    Args:
        server: its address.
        wishes: parameters of the query.

    """

    def __init__(self, server: str, wishes: dict[str, Any]) -> None:
        self._server = server.rstrip("/")
        self._path = f"{self._server}/score" + (f"?{urlencode(wishes)}" if wishes else "")
        self._http = urllib3.PoolManager(1, timeout=urllib3.Timeout(connect=5.0, read=60.0), retries=False)
        self._failures = 0

    def greet(self) -> None:
        """See that somebody is there.

        Raises:
            Unavailable: nobody is.

        """
        try:
            self._http.request("GET", f"{self._server}/healthz")
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            raise Unavailable(
                f"no inference server at {self._server}: start `farshore serve`, or say --server ({_why(error)})"
            ) from None

    def ask(self, picture: bytes) -> Answer:
        """The answer to a picture, also where there is none.

        Raises:
            NotFound: the server has no such model.

        """
        begun = time.monotonic()
        try:
            got = self._http.request("POST", self._path, body=picture)
            told = json.loads(got.data)
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            self._failures += 1
            fault = {"error": {"code": "unavailable", "message": f"no answer from {self._server}: {_why(error)}"}}
            return Answer(Unavailable.status, fault, wait=pause(self._failures))
        self._failures = 0
        if got.status == NotFound.status:
            raise _fault(told)
        return Answer(got.status, told, time.monotonic() - begun, _seconds(got.headers.get("Retry-After", "")))

    def draw(self, picture: bytes) -> bytes:
        """The picture with what was found drawn on it.

        Raises:
            Unavailable: the server could not.

        """
        try:
            got = self._http.request("POST", self._path, body=picture, headers={"Accept": "image/jpeg"})
        except urllib3.exceptions.HTTPError as error:
            raise Unavailable(f"no answer from {self._server}: {_why(error)}") from None
        if got.status != 200:
            raise Unavailable(f"{self._server} answers {got.status} when asked to draw")
        return got.data


@dataclass(slots=True)
class Seen:
    """What became of all frames."""

    begun: float = field(default_factory=time.monotonic)
    answered: int = 0
    refused: int = 0

    def count(self, answer: Answer) -> None:
        self.answered += answer.status == 200
        self.refused += answer.status != 200

    def told(self) -> str:
        """One line."""
        frames, seconds = self.answered + self.refused, max(1e-9, time.monotonic() - self.begun)
        return f"{frames} frames, {self.answered} answered, {self.refused} not; {self.answered / seconds:.1f}/s"


def patiently(ask: Callable[[], Answer]) -> Answer:
    """Ask until the server has time: a file's frame is not left out because it was busy or started again."""
    while (answer := ask()).status == Unavailable.status:
        click.echo(f"{_message(answer.told)}; again in {answer.wait:g} s", err=True)
        time.sleep(answer.wait)
    return answer


@contextmanager
def _frames(source: str, choice: Choice) -> Iterator[Iterator[Frame]]:
    if is_stream(source):
        with Camera(source, choice, lambda line: click.echo(line, err=True)) as camera:
            yield camera.frames()
    elif "://" in source:
        raise Invalid(f"{source.partition('://')[0]}:// is not watched; rtsp, rtsps, http and https are, and files")
    else:
        yield of_files(Path(source), choice, time.sleep)


def _save(path: Path, data: bytes) -> None:
    files.make_folder(path.parent)
    files.write_atomic(path, data)


def _as_json(frame: Frame, answer: Answer) -> str:
    about = {"frame": frame.number, "name": frame.name, "seconds": frame.seconds, "status": answer.status}
    return json.dumps({**about, **answer.told}, ensure_ascii=False)


def _as_line(frame: Frame, answer: Answer) -> str:
    where = frame.name if frame.seconds is None else f"{frame.seconds:8.2f} s  {frame.number}"
    text = described(answer.told) if answer.status == 200 else _message(answer.told)
    return "".join(each if each.isprintable() else "·" for each in f"{where}  {1e3 * answer.seconds:.0f} ms  {text}")


def described(told: dict[str, Any]) -> str:
    """An answer's findings on one line, whatever the task."""
    found = [
        f"{each['class']} {each['score']:.2f} [{' '.join(f'{edge:.0f}' for edge in each['box'])}]"
        for each in (*told.get("detections", ()), *told.get("segments", ()))
    ]
    found += [f"{each['class']} {each.get('score', each.get('share', 0.0)):.2f}" for each in told.get("classes", ())]
    found += [f"pose {each['score']:.2f}, {len(each['keypoints'])} points" for each in told.get("poses", ())]
    if "picture" in told:
        found.append(f"a picture of {told['picture']['width']} × {told['picture']['height']}")
    found += [f"{name} {each['dtype']}{each['shape']}" for name, each in told.get("outputs", {}).items()]
    more = f", and {len(found) - MAX_SHOWN} more" if len(found) > MAX_SHOWN else ""
    return ", ".join(found[:MAX_SHOWN]) + more if found else "nothing"


def _message(told: dict[str, Any]) -> str:
    return _fault(told).message


def _fault(told: dict[str, Any]) -> FarshoreError:
    fault = told.get("error", {})
    return from_code(str(fault.get("code", "")), str(fault.get("message", "an answer without words")))


def _seconds(header: str) -> float:
    return min(MAX_PAUSE, max(1.0, float(header))) if header.isascii() and header.isdigit() else 1.0


def _why(error: Exception) -> str:
    return str(error).rpartition(": ")[2].splitlines()[0][:200] if str(error) else type(error).__name__
