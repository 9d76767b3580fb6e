"""Each language says everything that pages say, and nothing is left over."""

import pathlib
import re
import string

import pytest

import farshore.hub.studio as room
from farshore.hub.studio import languages
from farshore.hub.studio.languages import LANGUAGES, Voice, choose

ROOM = pathlib.Path(room.__file__).parent
TEXTS = languages.load(ROOM / "languages")
SOURCES = [*ROOM.glob("templates/*.html"), *ROOM.glob("*.py")]
KEY = re.compile(r"""\bt\(\s*["']([a-z]+\.[a-z0-9_]*)["']\s*(~?)""")
WORD = re.compile(r"""\bword\(\s*["']([a-z]+)["']""")


def used():
    """Keys that are asked for as they stand, beginnings of those that are put together, and areas of words."""
    whole, begun, areas = set(), set(), set()
    for path in SOURCES:
        if path.name == "languages.py":
            continue
        text = path.read_text()
        for key, more in KEY.findall(text):
            (begun if more else whole).add(key)
        areas |= set(WORD.findall(text))
    return whole, begun, areas


def test_every_text_is_there_in_every_language():
    assert TEXTS
    for key, texts in TEXTS.items():
        assert set(texts) == set(LANGUAGES), key
        assert all(text.strip() == text and text for text in texts.values()), key


def test_languages_fill_in_the_same():
    for key, texts in TEXTS.items():
        fields = [
            {name for _, name, _, _ in string.Formatter().parse(text) if name is not None} for text in texts.values()
        ]
        assert all(one == fields[0] for one in fields), key


def test_every_text_that_pages_ask_for_is_there():
    whole, begun, areas = used()
    assert whole <= set(TEXTS), sorted(whole - set(TEXTS))
    for start in begun:
        assert any(key.startswith(start) for key in TEXTS), start
    for area in areas:
        assert any(key.startswith(f"{area}.") for key in TEXTS), area


def test_no_text_is_left_over():
    whole, begun, areas = used()
    left = {
        key
        for key in TEXTS
        if key not in whole and not key.startswith(tuple(begun)) and key.partition(".")[0] not in areas
    }
    assert not left, sorted(left)


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("de,fr;q=0.9", "en"),
        ("ko-KR,ko;q=0.9,en;q=0.5", "ko"),
        ("zh-TW", "zh-Hant"),
        ("zh-Hant-HK;q=0.3, ko;q=0.2", "zh-Hant"),
        ("en;q=0, ko", "ko"),
        ("en;q=0.1,ko;q=0.7", "ko"),
        ("ko;q=banana,zh", "zh-Hant"),
        ("*", "en"),
        (",;q=,,ko;q=1.0", "ko"),
    ],
)
def test_the_browser_chooses(header, language):
    assert choose("", header) == language


def test_what_was_chosen_counts_more():
    assert choose("ko", "zh") == "ko"
    assert choose("xx", "zh") == "zh-Hant"


def test_one_and_many():
    texts = {"a.b": {"en": "{n} device|{n} devices"}, "a.gone_back": {"en": "went back"}}
    voice = Voice(texts, "en")
    assert (voice("a.b", n=1), voice("a.b", n=2)) == ("1 device", "2 devices")
    assert (voice.word("a", "gone back"), voice.word("a", "else")) == ("went back", "else")
