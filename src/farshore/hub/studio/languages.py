"""What Studio says, in each language that it speaks.

One TOML file for each part of Studio, the languages of a text side by side::

    title = { en = "Models", zh-Hant = "模型", ko = "모델" }

is ``t("models.title")`` if it stands in ``models.toml``. ``{name}`` is filled in; ``a|b`` are the forms for one and for many,
chosen by ``n``.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

LANGUAGES = {"en": "English", "zh-Hant": "繁體中文", "ko": "한국어"}
"""Tag → name of the language in itself; the first one where nothing else is asked for."""
DEFAULT = "en"
MAX_HEADER = 1000
_WEIGHT = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\Z")


def load(folder: Path) -> dict[str, dict[str, str]]:
    """All texts: ``area.key`` → language → text.

    Args:
        folder: with the TOML files.

    """
    found: dict[str, dict[str, str]] = {}
    for path in sorted(folder.glob("*.toml")):
        for key, texts in tomllib.loads(path.read_text()).items():
            found[f"{path.stem}.{key}"] = texts
    return found


class Voice:
    """Speaks one language; ``t`` of the templates.

    Args:
        texts: as :func:`load` gives them.
        language: one of :data:`LANGUAGES`.

    """

    def __init__(self, texts: dict[str, dict[str, str]], language: str) -> None:
        self._texts = texts
        self.language = language

    def __call__(self, key: str, /, **values: object) -> str:
        """The text ``key``, with ``values`` filled in.

        Raises:
            KeyError: there is no such text, or a value that it needs is missing: a fault of the page.

        """
        text = self._texts[key][self.language]
        if "n" in values and "|" in text:
            one, many = text.split("|", 1)
            text = one if values["n"] in {1, "1"} else many
        return text.format_map(values) if values else text

    def word(self, area: str, word: str) -> str:
        """The hub's own ``word`` (a state, a role) in this language; as it is where ``area`` has no text for it."""
        known = self._texts.get(f"{area}.{word.replace(' ', '_')}")
        return word if known is None else known[self.language]


def choose(kept: str, accepted: str) -> str:
    """The language to speak.

    Args:
        kept: what the visitor chose before; "" if nothing.
        accepted: header ``Accept-Language``.

    """
    if kept in LANGUAGES:
        return kept
    wishes: list[tuple[float, str]] = []
    for part in accepted[:MAX_HEADER].split(","):
        tag, _, weight = (piece.strip() for piece in part.partition(";"))
        match = _WEIGHT.match(weight.replace(" ", ""))
        wishes.append((float(match[1]) if match else 0.0 if weight else 1.0, tag.lower()))
    for wish, wanted in sorted(wishes, key=lambda one: -one[0]):
        for language in LANGUAGES:
            if wish > 0 and wanted.partition("-")[0] == language.lower().partition("-")[0]:
                return language
    return DEFAULT
