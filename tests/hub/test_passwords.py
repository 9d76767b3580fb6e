import pytest

from farshore.core.errors import Invalid, Unauthenticated, Unavailable
from farshore.hub.passwords import FREE, LONGEST, Passwords

RIGHT = "correct horse battery staple"


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def passwords(clock):
    return Passwords(clock)


def test_argon2id_and_never_the_same_twice(passwords):
    one, other = passwords.hash("kari", RIGHT), passwords.hash("kari", RIGHT)
    assert one.startswith("$argon2id$v=19$m=65536,t=3,p=4$") and one != other
    for kept in (one, other):
        passwords.check("kari", kept, RIGHT)


@pytest.mark.parametrize("password", ["", "short", "x" * 11, "x" * 201, "kari-nordmann", "KARI-Nordmann"])
def test_what_is_no_password(passwords, password):
    with pytest.raises(Invalid, match="12 to 200"):
        passwords.hash("kari-nordmann", password)


def test_wrong_ones_and_names_that_nobody_has_sound_the_same(passwords):
    kept = passwords.hash("kari", RIGHT)
    said = set()
    for name, held, password in (
        ("kari", kept, "wrong"),
        ("nobody", "", RIGHT),
        ("nobody", "", "nobody's password"),
        ("kari", kept, "x" * 9999),
    ):
        with pytest.raises(Unauthenticated) as refused:
            passwords.check(name, held, password)
        said.add(refused.value.message)
    assert len(said) == 1


def test_whoever_guesses_waits_longer_and_longer(passwords, clock):
    kept = passwords.hash("kari", RIGHT)
    for _ in range(FREE):
        with pytest.raises(Unauthenticated):
            passwords.check("kari", kept, "wrong")
    waited = []
    for _ in range(3):
        with pytest.raises(Unavailable, match="wait"):
            passwords.check("kari", kept, RIGHT)
        before = clock.now
        while True:
            clock.now += 0.5
            try:
                passwords.check("kari", kept, "wrong")
            except Unavailable:
                continue
            except Unauthenticated:
                break
        waited.append(clock.now - before)
    assert waited == [1.0, 2.0, 4.0]
    with pytest.raises(Unauthenticated):
        passwords.check("ola", "", "wrong")  # others do not wait with them
    clock.now += LONGEST
    passwords.check("kari", kept, RIGHT)
    with pytest.raises(Unauthenticated):
        passwords.check("kari", kept, "wrong")  # and the count began anew
