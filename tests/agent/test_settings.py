from __future__ import annotations

from pathlib import Path

import pytest

from farshore.agent.settings import Settings, parse_size
from farshore.core.errors import Invalid


def write(root, text):
    (root / "agent").mkdir()
    (root / "agent" / "agent.toml").write_text(text)


def test_defaults(tmp_path):
    settings = Settings.load(tmp_path, {}, {})
    assert settings.root == tmp_path
    assert settings.folder == tmp_path / "agent"
    assert settings.serve == "socket"
    assert settings.quota is None


def test_the_later_wins(tmp_path):
    write(tmp_path, 'hub = "http://file"\nquota = "1GB"\nrate = 1000\nwindows = ["22:00-06:00"]\n')
    settings = Settings.load(
        tmp_path,
        {"hub": "http://argument", "rate": None},
        {"FARSHORE_HUB": "http://environment", "FARSHORE_QUOTA": "2GB", "FARSHORE_OTHER": "x", "FARSHORE_ROOT": "/"},
    )
    assert settings.hub == "http://argument"
    assert settings.quota == 2_000_000_000
    assert settings.rate == 1000
    assert settings.windows == ("22:00-06:00",)


def test_every_setting_can_stand_in_the_environment(tmp_path):
    environ = {
        "FARSHORE_HUB": "https://hub.example", "FARSHORE_CA": "/ca.pem", "FARSHORE_SERVE": "none",
        "FARSHORE_RUNTIMES": "litert", "FARSHORE_QUOTA": "1GB", "FARSHORE_KEEP_FREE": "1MiB", "FARSHORE_RATE": "64kB",
        "FARSHORE_MINIMUM_RATE": "10", "FARSHORE_WINDOWS": "22:00-06:00, 12:00-13:00Z", "FARSHORE_TRIAL": "0",
        "FARSHORE_WAIT": "10", "FARSHORE_POLL": "2.5", "FARSHORE_SLICE": "1", "FARSHORE_PROBE": "60",
        "FARSHORE_INSECURE_HTTP": "1", "FARSHORE_CERTIFICATE": "/mine.pem", "FARSHORE_LINK": "azure",
        "FARSHORE_CONNECTION": "HostName=h;DeviceId=d;SharedAccessKey=k", "FARSHORE_WEBSOCKETS": "1",
        "FARSHORE_SEED": "/opt/seed",
        "FARSHORE_CLASSIC": "detector",
    }  # fmt: skip
    settings = Settings.load(tmp_path, {}, environ)
    assert {f"FARSHORE_{name.upper()}" for name in settings.__struct_fields__ if name != "root"} == set(environ)
    assert settings.ca == Path("/ca.pem")
    assert settings.certificate == Path("/mine.pem")
    assert settings.insecure_http is True
    assert (settings.link, settings.websockets) == ("azure", True)
    assert settings.runtimes == ("litert",)
    assert settings.keep_free == 1 << 20
    assert settings.rate == 64_000
    assert settings.windows == ("22:00-06:00", "12:00-13:00Z")
    assert (settings.trial, settings.wait, settings.poll) == (0, 10, 2.5)


@pytest.mark.parametrize(
    ("arguments", "environ", "says"),
    [
        ({"hub": "hub.example"}, {}, "hub URL"),
        ({"hub": "http://user@hub"}, {}, "hub URL"),
        ({"hub": "ftp://hub"}, {}, "hub URL"),
        ({"serve": "maybe"}, {}, "serve"),
        ({"quota": "much"}, {}, "size"),
        ({"windows": ["night"]}, {}, "window"),
        ({"colour": "red"}, {}, "colour"),
        ({}, {"FARSHORE_WAIT": "long"}, "FARSHORE_WAIT"),
        ({}, {"FARSHORE_WAIT": "999"}, "wait"),
        ({}, {"FARSHORE_POLL": "0"}, "poll"),
        ({}, {"FARSHORE_POLL": "nan"}, "poll"),
        ({}, {"FARSHORE_RATE": "0"}, "rate"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, arguments, environ, says):
    with pytest.raises(Invalid, match=says):
        Settings.load(tmp_path, arguments, environ)


@pytest.mark.parametrize("text", ["hub = 7", "hub = ", "nonsense = 1", "quota = -5", "\xff"])
def test_a_file_that_is_wrong(tmp_path, text):
    write(tmp_path, "")
    (tmp_path / "agent" / "agent.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(Invalid):
        Settings.load(tmp_path, {}, {})


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1500", 1500),
        ("20kB", 20_000),
        ("1.5 GB", 1_500_000_000),
        ("64MiB", 64 << 20),
        ("2T", 2 * 10**12),
        ("1 B", 1),
    ],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "B", "-1", "1XB", "1e3", "1 000", "1KB"])
def test_what_is_not_a_size(text):
    with pytest.raises(Invalid):
        parse_size(text)


def test_every_setting_is_documented():
    page = Path(__file__).parents[2] / "docs" / "life-of-an-update.md"
    rows = [line.split("|")[1].strip(" `") for line in page.read_text().splitlines() if line.startswith("| `")]
    assert {name for name in Settings.__struct_fields__ if name != "root"} <= set(rows)
