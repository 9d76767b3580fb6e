"""Class names: where they stand, and which line is class 0.

The trap: a list may begin with a line for the background (``???``, ``background``) that the model does not count, and have
lines for gaps in a data set's numbering that it does. Leaving out every ``???`` calls every cat a dog. So lines are never
dropped; ``skip`` says how many come before class 0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from farshore.core.errors import Invalid, TooLarge
from farshore.formats.info import ModelInfo

MAX_BYTES = 4 << 20
MAX_LINES = 200_000
MAX_LINE = 512
GAP = "???"

_BACKGROUND = frozenset({GAP, "background", "__background__", "_background_", "bg", "none", "unlabeled", "unlabelled"})
_EXACT = ("labels.txt", "labelmap.txt", "label_map.txt", "classes.txt", "coco_classes.txt", "names.txt", "coco.names")
_NUMBERED = re.compile(r"\s*(\d{1,6})\s*[:\s]\s*(\S.*)")
_PAIR = re.compile(r"""(\d{1,6})\s*:\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)")""")
_ESCAPE = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class LabelList:
    """Class names as the manifest will hold them.

    Attributes:
        path: name of the file they are in.
        names: its lines; class i is line i + ``skip``.
        skip: lines before class 0.
        content: bytes to write as ``path``, because no file that came with the model has them so; None if ``path`` is such
            a file and is taken as it is.

    """

    path: str
    names: tuple[str, ...]
    skip: int = 0
    content: bytes | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """Names and where they were found. ``plain`` is whether the file ``path`` has exactly these lines."""

    names: tuple[str, ...]
    path: str
    origin: str
    plain: bool


def background(name: str) -> bool:
    """Whether a line stands for "nothing"."""
    return name.strip().lower() in _BACKGROUND


def parse(data: bytes, path: str) -> tuple[tuple[str, ...], bool]:
    """The names in a label file.

    Args:
        data: UTF-8; one name a line, or numbered lines (``0 person``, ``12: dog``).
        path: for messages.

    Returns:
        The names in order of class, numbers taken off and their gaps filled with ``???``; and whether the lines were
        plain, without numbers.

    Raises:
        Invalid: not UTF-8, or no name.
        TooLarge: too many or too long lines.

    """
    if len(data) > MAX_BYTES:
        raise TooLarge(f"label file {path!r} has {len(data)} bytes; at most {MAX_BYTES} are taken")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Invalid(f"label file {path!r} is not UTF-8 (byte {error.start}): save it as UTF-8") from None
    lines = [line.strip() for line in text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    if not any(lines):
        raise Invalid(f"label file {path!r} has no names")
    if len(lines) > MAX_LINES or max(map(len, lines)) > MAX_LINE:
        raise TooLarge(f"label file {path!r}: at most {MAX_LINES} lines of {MAX_LINE} characters are taken")
    numbered = _numbered(lines)
    return (tuple(lines), True) if numbered is None else (numbered, False)


def _numbered(lines: list[str]) -> tuple[str, ...] | None:
    """Names of numbered lines with their gaps filled; None if the lines are not numbered, rising from 0 or 1."""
    pairs = []
    for line in filter(None, lines):
        match = _NUMBERED.fullmatch(line)
        if match is None:
            return None
        pairs.append((int(match[1]), match[2]))
    numbers = [number for number, _ in pairs]
    if numbers[0] > 1 or len(numbers) < 2 or any(b <= a for a, b in pairwise(numbers)):
        return None
    return _filled(dict(pairs))


def _filled(names: dict[int, str]) -> tuple[str, ...] | None:
    if not names or max(names) >= min(MAX_LINES, 10 * len(names) + 100):
        return None
    return tuple(names.get(number, GAP)[:MAX_LINE] for number in range(max(names) + 1))


def likely(names: Iterable[str]) -> list[str]:
    """Which of the files beside a model are label files, best first; several of equal rank are all returned."""
    names = sorted(names)
    for exact in _EXACT:
        found = [name for name in names if name.lower() == exact]
        if found:
            return found[:1]
    return [
        name
        for name in names
        if name.lower().endswith(".names")
        or (name.lower().endswith(".txt") and any(word in name.lower() for word in ("label", "class", "names")))
    ]


def in_metadata(info: ModelInfo) -> tuple[str, ...] | None:
    """Names in the file's own texts: JSON (list, or object by number), Ultralytics' ``{0: 'person'}``, or a comma list."""
    for key in ("names", "labels", "classes", "class_names"):
        text = info.metadata.get(key, "").strip()
        if not text:
            continue
        found = _from_text(text)
        if found:
            return found
    return None


def _from_text(text: str) -> tuple[str, ...] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        names = value
    elif isinstance(value, dict) and all(key.isdecimal() and isinstance(value[key], str) for key in value):
        return _filled({int(key): value[key] for key in value if len(key) <= 6})
    elif text[0] in "{[":
        pairs = {int(m[1]): _ESCAPE.sub(r"\1", m[2] if m[2] is not None else m[3]) for m in _PAIR.finditer(text)}
        return _filled(pairs)
    else:
        names = [name.strip() for name in text.replace("\n", ",").split(",") if name.strip()]
    return tuple(name[:MAX_LINE] for name in names[:MAX_LINES]) if len(names) > 1 else None


def find(info: ModelInfo, files: Mapping[str, bytes], wanted: str | None) -> tuple[Found | None, list[str]]:
    """Class names that came with the model.

    Args:
        info: of the model: metadata and packed files.
        files: text files beside it, by name.
        wanted: the one that the operator named; None looks for it.

    Returns:
        The names; and the candidates if there are several and none stands out.

    Raises:
        NotFound, Invalid: ``wanted`` is not there, or a label file cannot be read.

    """
    candidates = [wanted] if wanted is not None else likely(files)
    if wanted is not None and wanted not in files:
        packed = [file for file in info.packed if file.name == wanted and file.content is not None]
        if not packed:
            raise Invalid(
                f"label file {wanted!r} (labels.file) is not beside the model: push it with it, or correct the name"
            )
        names, _ = parse(packed[0].content or b"", wanted)
        return Found(names, wanted, "packed in the model", plain=False), []
    if len(candidates) == 1:
        names, plain = parse(files[candidates[0]], candidates[0])
        return Found(names, candidates[0], "beside the model", plain), []
    if candidates:
        return None, candidates
    stated = in_metadata(info)
    if stated:
        return Found(stated, "", "in the model's metadata", plain=False), []
    for file in info.packed:
        if file.kind == "labels" and file.content:
            names, _ = parse(file.content, file.name)
            return Found(names, file.name, f"packed in the model as {file.name!r}", plain=False), []
    return None, []


def as_file(names: tuple[str, ...]) -> bytes:
    """The bytes of a label file with these lines."""
    return "".join(" ".join(name.split()) + "\n" for name in names).encode()
