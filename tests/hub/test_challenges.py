import pytest

from farshore.core.errors import Unauthenticated
from farshore.hub.challenges import SECONDS, Challenges

CHALLENGES = Challenges(b"s" * 32)


def test_it_is_good_for_a_while_also_when_clocks_are_set_back():
    challenge = CHALLENGES.write("d", 3, 1000.9)
    for now in (1000.9, 1000 + SECONDS, 1000 - SECONDS):
        CHALLENGES.check(challenge, "d", 3, now)
    for now in (1001 + SECONDS, 999 - SECONDS):
        with pytest.raises(Unauthenticated, match="too old"):
            CHALLENGES.check(challenge, "d", 3, now)


def test_it_is_for_one_device_one_renewal_and_one_hub():
    challenge = CHALLENGES.write("d", 3, 1000)
    for device, turn in (("e", 3), ("d", 4), ("d", 2)):
        with pytest.raises(Unauthenticated):
            CHALLENGES.check(challenge, device, turn, 1000)
    with pytest.raises(Unauthenticated):
        Challenges(b"t" * 32).check(challenge, "d", 3, 1000)


def test_every_changed_character_breaks_it():
    challenge = CHALLENGES.write("d", 3, 1000)
    for at in range(len(challenge)):
        forged = challenge[:at] + ("1" if challenge[at] != "1" else "2") + challenge[at + 1 :]
        with pytest.raises(Unauthenticated):
            CHALLENGES.check(forged, "d", 3, 1000)


@pytest.mark.parametrize("challenge", ["", "~", "1~", "x" * 9000, "-1~" + "a" * 43, "1~" + "a" * 43 + "\n"])
def test_what_is_no_challenge(challenge):
    with pytest.raises(Unauthenticated):
        CHALLENGES.check(challenge, "d", 0, 0)
