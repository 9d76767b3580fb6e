"""Digests are parsed once, strictly."""

import hashlib

import pytest

from farshore.core import digest as digests
from farshore.core.errors import Corrupt, Invalid

GOOD = "sha256:" + "0a" * 32


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256:",
        GOOD[:-1],
        GOOD + "0",
        GOOD.upper(),
        GOOD + "\n",
        "md5:" + "0" * 64,
        " " + GOOD,
        GOOD[:-1] + "g",
        "sha256:../" + "0" * 61,
    ],
)
def test_only_the_full_form_is_a_digest(text):
    with pytest.raises(Invalid):
        digests.parse(text)


def test_parse_returns_the_same_text():
    assert digests.parse(GOOD) == GOOD
    assert digests.hex_of(digests.parse(GOOD)) == "0a" * 32


def test_stream_and_whole_agree():
    data = bytes(range(256)) * 40
    whole = digests.of(data)
    assert whole == "sha256:" + hashlib.sha256(data).hexdigest()
    assert digests.of_stream([data[:7], b"", data[7:]]) == (whole, len(data))


def test_a_copied_hasher_goes_its_own_way():
    first = digests.Hasher()
    first.update(b"ab")
    second = first.copy()
    second.update(b"c")
    assert (first.digest(), first.size) == (digests.of(b"ab"), 2)
    assert (second.digest(), second.size) == (digests.of(b"abc"), 3)


def test_check_names_the_thing():
    with pytest.raises(Corrupt, match="download"):
        digests.check(digests.of(b"a"), digests.of(b"b"), "download")
