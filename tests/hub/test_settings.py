from pathlib import Path

import pytest

from farshore.core.errors import Invalid
from farshore.hub.settings import Settings, read


def test_defaults_keep_everything_in_one_folder(tmp_path):
    settings = Settings(data=tmp_path)
    assert settings.database_url == f"sqlite:///{tmp_path}/hub.sqlite3"
    assert settings.store_url == f"{tmp_path}/objects"
    assert settings.url == "http://127.0.0.1:8400"


def test_the_environment_is_read_and_overruled():
    settings = read(
        {"FARSHORE_HUB_PORT": "9000", "FARSHORE_HUB_DATA": "/d", "FARSHORE_HUB_HOST": "::1"}, host=None, port=9001
    )
    assert (settings.data, settings.port, settings.url) == (Path("/d"), 9001, "http://[::1]:9001")


def test_a_public_address_wins():
    assert Settings(data=Path(), public_url="https://hub.example/").url == "https://hub.example"
    assert Settings(data=Path(), certificate="c", certificate_key="k").url.startswith("https://")


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"FARSHORE_HUB_PORT": "http"}, "FARSHORE_HUB_PORT"),
        ({"FARSHORE_HUB_PORT": "70000"}, "65535"),
        ({"FARSHORE_HUB_SEEN_SECONDS": "0"}, "seen_seconds"),
        ({"FARSHORE_HUB_CERTIFICATE": "c.pem"}, "certificate_key"),
    ],
)
def test_wrong_settings_are_named(environment, said):
    with pytest.raises(Invalid, match=said):
        read(environment)
