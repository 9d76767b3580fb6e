import pytest

from farshore.client.login import Door, host_of, parse_link
from farshore.core.errors import Invalid, Unavailable
from farshore.core.invitation import Invitation

SECRET, PIN = "s" * 43, "p" * 43


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("https://hub:8400/", ("https://hub:8400", None)),
        (f"https://hub:8400/setup#farshore1.{SECRET}.ca={PIN}", ("https://hub:8400", Invitation(SECRET, PIN))),
        (f"http://127.0.0.1:1/base/setup#farshore1.{SECRET}", ("http://127.0.0.1:1/base", Invitation(SECRET))),
    ],
)
def test_addresses_and_setup_links(text, found):
    assert parse_link(text) == found


@pytest.mark.parametrize(
    "text", ["https://hub/setup#", "https://hub/setup#short", f"https://hub/other#farshore1.{SECRET}"]
)
def test_what_is_no_setup_link_is_not_repeated(text):
    with pytest.raises(Invalid, match="no setup link") as refused:
        parse_link(text)
    assert SECRET not in refused.value.message


def test_hosts_as_names_of_files():
    assert [host_of(url) for url in ("https://hub:8400/x", "https://[::1]:1")] == ["hub_8400", "__1_1"]


def test_nobody_there_and_no_secrets_in_the_clear():
    with pytest.raises(Unavailable, match="no hub answers"):
        Door("http://127.0.0.1:9").log_in("kari", "correct horse battery staple")
    with pytest.raises(Invalid, match="insecure"):
        Door("http://hub.example")
