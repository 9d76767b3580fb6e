"""Settings of the agent: read once, then frozen.

From ``<root>/agent/agent.toml``, then the environment (``FARSHORE_QUOTA=20GB``), then arguments; the later wins.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import fields

from farshore.core import windows, wire
from farshore.core.errors import Invalid

Bytes = Annotated[int, Meta(ge=0, le=1 << 53)]
Seconds = Annotated[float, Meta(gt=0, le=7 * 86400)]

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kMGT]?)(i?)B?\Z")
_POWER = {"": 0, "k": 1, "M": 2, "G": 3, "T": 4}
_SIZES = {"quota", "keep_free", "rate", "minimum_rate"}


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an operator may choose for one device.

    Attributes:
        root: the device's folder.
        hub: URL of the hub; None for the one it enrolled at.
        link: ``hub`` for a Farshore hub over HTTP, ``azure`` for an IoT Hub and a store that was published to.
        connection: connection string of this device or module at an IoT Hub; "" for what IoT Edge tells a module.
        classic: model for which the twin is believed unsigned, in the classic contract (FileName, DownloadUrl, ContentMD5).
        websockets: reach the IoT Hub over websockets (port 443).
        certificate: PEM file with this device's TLS certificate and its key, for a hub that admits only who has one.
        ca: PEM file with the only authorities to believe; None for the one that the enrolment token named, else the system's.
        insecure_http: speak plain HTTP to the hub also beyond this machine.
        seed: folder with files by digest that came with the device, and are not fetched.
        serve: ``socket`` when an inference server runs here, ``none`` when this device only keeps the files.
        runtimes: runtimes for which versions are chosen when ``serve`` is ``none``.
        quota: bytes that models may take on disk; None for no limit.
        keep_free: bytes of the disk that are never filled.
        rate: bytes a second that downloads may use; None for no limit.
        minimum_rate: bytes a second below which, for a minute, a connection is given up and opened anew.
        windows: times of day in which bytes may be moved; none for always. See :mod:`farshore.core.windows`.
        trial: seconds a new version must answer before it is confirmed.
        wait: seconds the hub may hold an idle sync until something changes.
        poll: seconds between syncs while there is work, or where the hub does not hold them.
        slice: seconds after which a download lets the loop look around.
        probe: seconds the inference server may take to load and probe a version.

    """

    root: Path
    hub: str | None = None
    ca: Path | None = None
    certificate: Path | None = None
    insecure_http: bool = False
    link: Literal["hub", "azure"] = "hub"
    connection: str = ""
    classic: str = ""
    websockets: bool = False
    seed: Path | None = None
    serve: Literal["socket", "none"] = "socket"
    runtimes: tuple[Literal["onnxruntime", "litert"], ...] = ("onnxruntime", "litert")
    quota: Bytes | None = None
    keep_free: Bytes = 256 << 20
    rate: Annotated[int, Meta(ge=1, le=1 << 40)] | None = None
    minimum_rate: Bytes = 64
    windows: tuple[str, ...] = ()
    trial: Annotated[float, Meta(ge=0, le=7 * 86400)] = 60.0
    wait: Annotated[int, Meta(ge=0, le=wire.MAX_WAIT)] = 55
    poll: Seconds = 30.0
    slice: Seconds = 5.0
    probe: Seconds = 300.0

    def __post_init__(self) -> None:
        if self.hub is not None and not re.match(r"https?://[^/?#@]+(/[^?#]*)?\Z", self.hub):
            raise Invalid(f"bad hub URL {self.hub[:80]!r}: http://HOST:PORT or https://HOST is needed")
        for text in self.windows:
            windows.parse(text)

    @property
    def folder(self) -> Path:
        """The agent's own folder inside the root."""
        return self.root / "agent"

    @classmethod
    def load(
        cls, root: Path, arguments: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None
    ) -> Settings:
        """Read the settings.

        Args:
            root: the device's folder.
            arguments: from the command line, by attribute name; None values are left out.
            environ: the environment; the process's own if None.

        Raises:
            Invalid: unknown name or bad value; the message says where.

        """
        path = root / "agent" / "agent.toml"
        values = _from_file(path) | _from_environment(os.environ if environ is None else environ)
        values |= {name: value for name, value in (arguments or {}).items() if value is not None}
        values = {
            name: parse_size(value) if name in _SIZES and isinstance(value, str) else value
            for name, value in values.items()
        }
        try:
            return msgspec.convert({**values, "root": root.absolute()}, cls, dec_hook=_decode_path)
        except msgspec.ValidationError as error:
            raise Invalid(f"settings of the agent: {error}") from None


def _decode_path(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str | Path):
        return Path(value)
    raise NotImplementedError


def parse_size(text: str) -> int:
    """Bytes that ``text`` names: ``1500``, ``20kB``, ``1.5 GB`` (powers of 1000), ``64MiB`` (powers of 1024).

    Raises:
        Invalid: not of that form.

    """
    match = _SIZE.match(text.strip())
    if match is None:
        raise Invalid(f"bad size {text[:40]!r}: write bytes as 500MB, 1.5GB or 64MiB")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** _POWER[match[2]])


def _from_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"{path}: {error}") from error
    except OSError as error:
        raise Invalid(f"{path}: {error.strerror}") from error


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """``FARSHORE_<NAME>`` for every setting; numbers and lists (separated by commas) as text."""
    values: dict[str, Any] = {}
    for field in fields(Settings):
        text = environ.get(f"FARSHORE_{field.name.upper()}")
        if text is None or field.name == "root":
            continue
        if field.name in ("windows", "runtimes"):
            values[field.name] = [part.strip() for part in text.split(",") if part.strip()]
        elif field.name in _SIZES:
            values[field.name] = parse_size(text)
        elif field.name in ("insecure_http", "websockets"):
            values[field.name] = text.lower() in ("1", "true", "yes")
        elif field.type is not str and _is_number(field.type):
            values[field.name] = _number(field.name, text)
        else:
            values[field.name] = text
    return values


def _is_number(kind: Any) -> bool:
    inner = get_args(kind)[0] if get_args(kind) else kind
    return inner in (int, float)


def _number(name: str, text: str) -> float | int:
    try:
        value = float(text)
    except ValueError:
        raise Invalid(f"FARSHORE_{name.upper()}={text[:40]!r}: a number is needed") from None
    return int(value) if value.is_integer() else value
