"""The classic contract of Microsoft's guide to modules that load models, for who has it in use: a ZIP file, its address and its MD5 in desired.

``FileName``, ``DownloadUrl`` and ``ContentMD5`` (base64) in, ``LatestAIModelFileName`` out. Nobody signs here: it is off unless an operator of the
device names the model for which the module's twin is believed. The ZIP becomes a version of that model, signed by the device for itself
(:mod:`farshore.agent.own_authority`), and goes from there the way of all others: it is tried before it answers, and there is a way back.
https://learn.microsoft.com/azure/architecture/guide/iot/machine-learning-inference-iot-edge
"""

from __future__ import annotations

import base64
import hashlib
import logging
import mmap
import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Raw, Struct

from farshore import formats
from farshore.agent.azure_line import Called, Line
from farshore.agent.clock import Clock
from farshore.agent.http_link import HttpLink
from farshore.agent.link import Bearerless, Body
from farshore.agent.own_authority import OwnAuthority
from farshore.agent.pace import Pace
from farshore.agent.seed import FileBody
from farshore.agent.settings import Settings
from farshore.core import digest as digests
from farshore.core import documents, twin, windows
from farshore.core.digest import Digest
from farshore.core.errors import Conflict, Corrupt, FarshoreError, Invalid, NotFound, TooLarge, Unavailable
from farshore.core.manifest import Content, File, Variant
from farshore.core.wire import (
    EnrolReply,
    EnrolRequest,
    Route,
    SyncReply,
    SyncRequest,
    TicketReply,
    TicketRequest,
)
from farshore.formats import ModelInfo, Recognition
from farshore.store import archive, files
from farshore.store.archive import Member

log = logging.getLogger(__name__)

SCHEME = "classic:"
RUNNING, FAULT = "LatestAIModelFileName", "LastError"
MAX_TEXT = 4 << 20
MAX_ZIP = 8 << 30
RETRY = 30.0
SECONDS = 3600
_MODEL = (".onnx", ".tflite")
_TEXT = (".txt", ".names")

Short = Annotated[str, Meta(min_length=1, max_length=255)]


class Wish(Struct, frozen=True, rename={"name": "FileName", "url": "DownloadUrl", "md5": "ContentMD5"}):
    """What the twin wants: a file's name, where it is, and its MD5 in base64."""

    name: Short
    url: Annotated[str, Meta(max_length=4096, pattern=r"^https?://")]
    md5: Annotated[str, Meta(pattern=r"^[A-Za-z0-9+/]{22}==\Z")]

    @property
    def source(self) -> tuple[str, str]:
        """What tells it from others; the address does not, for it is written anew when it has run out."""
        return self.name, self.md5


class ClassicLink(Bearerless):
    """See :class:`farshore.agent.link.Link`.

    Args:
        host: name of the IoT Hub.
        device: this device's id there.
        line: makes the connection to it.
        settings: of this device, which name the model.
        clock: time.

    """

    def __init__(
        self, host: str, device: str, line: Callable[[Called], Line], settings: Settings, clock: Clock
    ) -> None:
        self.hub, self.device = f"https://{host}", device
        self._settings, self._clock = settings, clock
        self._folder = settings.folder / "classic"
        self._own = OwnAuthority(self._folder, device, settings.classic)
        self._files = self._folder / "files"
        files.make_folder(self._files)
        self._line = line(lambda _name, _payload: False)
        self._store = HttpLink(self.hub, None, None, insecure=settings.insecure_http)
        self._pace = Pace(settings.rate, clock)
        self._under_way: _Download | None = None
        self._given_up: Wish | None = None
        self._said: dict[str, str | None] = {}

    def enrol(self, request: EnrolRequest) -> EnrolReply:
        return EnrolReply(self.device, (Raw(self._own.root),))

    def sync(self, request: SyncRequest) -> SyncReply:
        if request.reported is not None:
            self._line.report(request.reported)
            self._note_running(request.reported)
        section = self._line.desired()
        done = self._look(section)
        if done and request.reported is None and request.wait > 1 and self._own.state.signed == request.seen:
            self._line.wait(section.get("$version", 0), request.wait)
            done = self._look(self._line.desired())
        desired = self._own.desired()
        news = self._own.news(request, self._clock.now())
        fresh, quiet = desired["$version"] != request.seen, request.reported is None and request.wait <= 1
        return SyncReply(desired if fresh else None, (RETRY if quiet else 1.0) if done else 0.0, news)

    def manifest(self, digest: Digest) -> bytes:
        found = self._own.manifest(digest)
        if found is None:
            raise NotFound(f"no manifest {digest} was made here")
        return found

    def tickets(self, request: TicketRequest) -> TicketReply:
        path = self._files / digests.hex_of(Digest(request.want))
        if not path.exists():
            self._own.forget()  # made anew from the ZIP
            raise NotFound(f"{request.want} is not here any more")
        return TicketReply((Route(f"{SCHEME}{request.want}", request.want, path.stat().st_size),), SECONDS)

    def fetch(self, url: str, start: int) -> Body:
        return FileBody.at(self._files / digests.hex_of(digests.parse(url.removeprefix(SCHEME))), start)

    def close(self) -> None:
        """Close all connections."""
        self._let_go()
        self._line.close()
        self._store.close()

    # -- what the twin wants ---------------------------------------------------------------------------------------

    def _look(self, section: dict[str, Any]) -> bool:
        """Go on with what is wanted, for a slice of time; whether there is nothing more to do for now."""
        if not section.get("FileName"):
            return True
        try:
            wish = documents.convert(section, Wish, what="desired")
        except Invalid as error:
            self._say(FAULT, error.message[:1024])
            return True
        if wish.source == self._own.state.source or wish == self._given_up or not self._may_fetch():
            return True
        try:
            if not self._download(wish):
                return False
            self._take(wish)
        except Unavailable as error:
            self._let_go()
            log.warning("%r: %s", wish.name, error.message)
            return True
        except FarshoreError as error:
            self._let_go()
            files.remove(self._part(wish))
            self._given_up = wish  # until another is wanted, or the same at another address
            self._say(FAULT, f"{wish.name}: {error.message}"[:1024])
            return True
        self._say(FAULT, None)
        return True

    def _download(self, wish: Wish) -> bool:
        """Go on with the ZIP for a slice; whether it is whole."""
        if self._under_way is None or self._under_way.wish != wish:
            self._let_go()
            self._under_way = _Download(wish, self._part(wish), self._store, self._room())
        until = self._clock.monotonic() + self._settings.slice
        while self._under_way.go_on(self._pace):
            if self._clock.monotonic() >= until:
                return False
        self._let_go()
        return True

    def _take(self, wish: Wish) -> None:
        """Make the ZIP a version."""
        path = self._part(wish)
        if _md5_of(path) != wish.md5:
            raise Corrupt("its MD5 is not the one in ContentMD5")
        parts: dict[str, Member] = {}
        for member in archive.unpack(path, self._files, limit=self._room()):
            target = self._files / digests.hex_of(member.digest)
            files.publish(member.path, target)
            parts[member.name] = Member(member.name, target, member.digest, member.size)
        self._own.release(Content((_variant(parts),)), wish.source)
        files.remove(path)
        log.info("%r: taken as %s@%d", wish.name, self._own.model, self._own.state.version)

    def _room(self) -> int:
        """Bytes that may be written here."""
        return max(min(files.free_bytes(self._settings.root) - self._settings.keep_free, MAX_ZIP), 0)

    def _part(self, wish: Wish) -> Path:
        return self._folder / f"{base64.b64decode(wish.md5).hex()}.zip"

    def _let_go(self) -> None:
        if self._under_way is not None:
            self._under_way.close()
            self._under_way = None

    def _may_fetch(self) -> bool:
        now = self._clock.now()
        opening = [windows.parse(text) for text in self._settings.windows]
        return windows.next_open(opening, now, self._clock.offset()) <= now

    def _say(self, what: str, text: str | None) -> None:
        if self._said.get(what) != text:
            if text is not None and what == FAULT:
                log.warning("%s", text)
            self._line.report({what: text})
            self._said[what] = text

    def _note_running(self, reported: dict[str, Any]) -> None:
        entry = (reported.get("models") or {}).get(twin.key_of(self._own.model)) or {}
        if self._own.newest is not None and (entry.get("current") or {}).get("digest") == self._own.newest:
            self._say(RUNNING, self._own.state.source[0])
            for path in self._files.iterdir():  # installed: they are blobs by now
                files.remove(path)


class _Download:
    """A ZIP on its way, appended to what an interruption left."""

    def __init__(self, wish: Wish, path: Path, store: HttpLink, room: int) -> None:
        self.wish = wish
        with files.translated(path):
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            done = os.fstat(self._fd).st_size
        self._body: Body | None = None
        try:
            self._body = store.fetch(wish.url, done)
            if self._body.start != done:
                os.ftruncate(self._fd, 0)
            if self._body.total is None or self._body.total - done > room:
                raise TooLarge(f"{self._body.total} bytes are offered, there is room for {room}")
        except Conflict:
            if not done:
                self.close()
                raise  # nothing is there at all
        except BaseException:
            self.close()
            raise

    def go_on(self, pace: Pace) -> bool:
        """Take the next bytes; False at the end."""
        data = b"" if self._body is None else self._body.read(pace.portion)
        if data:
            files.write_all(self._fd, data)
            pace.spend(len(data))
        return bool(data)

    def close(self) -> None:
        if self._body is not None:
            self._body.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _variant(parts: dict[str, Member]) -> Variant:
    """What the files are: recognised as at a push, and refused where that leaves questions."""
    models = [name for name in parts if name.lower().endswith(_MODEL)]
    if len(models) != 1:
        raise Invalid(f"exactly one .onnx or .tflite file is needed; found {', '.join(models)[:200] or 'none'}")
    name = models[0]
    texts = {each: _text(one) for each, one in parts.items() if each.lower().endswith(_TEXT)}
    beside = {each: one.size for each, one in parts.items() if each != name and each not in texts}
    said = parts.get("farshore.toml")
    info = _inspect(parts[name].path, beside)
    found = formats.recognise(info, texts, None if said is None else _overrides(_text(said)))
    return Variant(
        "classic",
        info.runtime,
        info.precision,
        _files(name, parts, info, found),
        info.inputs,
        info.outputs,
        found.pipeline(),
    )


def _files(name: str, parts: dict[str, Member], info: ModelInfo, found: Recognition) -> tuple[File, ...]:
    def file(path: str, role: Any) -> File:
        return File(path, parts[path].digest, parts[path].size, role)

    made = [file(name, "model")]
    if found.labels is not None:
        if found.labels.content is None:
            made.append(file(found.labels.path, "labels"))
        else:
            data = found.labels.content
            target = parts[name].path.with_name(digests.hex_of(digests.of(data)))
            files.write_atomic(target, data)
            made.append(File(found.labels.path, digests.of(data), len(data), "labels"))
    return (*made, *(file(each, "external") for each in sorted({one.location for one in info.external})))


def _inspect(path: Path, beside: dict[str, int]) -> ModelInfo:
    with path.open("rb") as file:
        if not path.stat().st_size:
            raise Invalid("the model file is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return formats.inspect(data, external=beside)


def _text(member: Member) -> bytes:
    if member.size > MAX_TEXT:
        raise TooLarge(f"{member.name}: {member.size} bytes; at most {MAX_TEXT} are taken")
    return member.path.read_bytes()


def _overrides(said: bytes) -> formats.Overrides:
    try:
        return formats.overrides(tomllib.loads(said.decode()))
    except ValueError as error:  # not UTF-8, or not TOML
        raise Invalid(f"farshore.toml cannot be read: {error}") from None


def _md5_of(path: Path) -> str:
    with path.open("rb") as file:
        hasher = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
    return base64.b64encode(hasher.digest()).decode()
