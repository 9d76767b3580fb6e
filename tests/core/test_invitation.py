import pytest
from hypothesis import given
from hypothesis import strategies as st

from farshore.core import invitation
from farshore.core.errors import Invalid
from farshore.core.invitation import Invitation

SECRET = "s" * 43
PIN, OTHER = "p" * 43, "q" * 43
secrets = st.text("abcXYZ019_-", min_size=16, max_size=128)
pins = st.one_of(st.just(""), st.text("abcXYZ019_-", min_size=43, max_size=43))


@given(secrets, pins, pins)
def test_what_is_written_is_read(secret, ca, root):
    made = Invitation(secret, ca, root)
    assert invitation.parse(str(made)) == made


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (SECRET, Invitation(SECRET)),
        (f" farshore1.{SECRET}\n", Invitation(SECRET)),
        (f"farshore1.{SECRET}.ca={PIN}", Invitation(SECRET, PIN)),
        (f"farshore1.{SECRET}.root={OTHER}.ca={PIN}", Invitation(SECRET, PIN, OTHER)),
        (f"farshore1.{SECRET}.future={OTHER}.ca={PIN}", Invitation(SECRET, PIN)),
    ],
)
def test_forms(text, found):
    assert invitation.parse(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "short",
        "farshore1",
        "farshore1.",
        f"farshore2.{SECRET}",
        f"farshore1.{SECRET}.",
        f"farshore1.{SECRET}.ca=short",
        f"farshore1.{SECRET}.ca={PIN}.ca={OTHER}",
        f"farshore1.{SECRET}.{PIN}",
        f"farshore1.{SECRET}.ca={PIN}\x00",
        f"farshore1.{'s' * 4096}",
        f"farshore1.{SECRET}" + f".ca={PIN}" * 100,
        f"{SECRET} {SECRET}",
    ],
)
def test_what_is_none_is_refused_without_repeating_it(text):
    with pytest.raises(Invalid) as refused:
        invitation.parse(text)
    assert SECRET not in refused.value.message
