"""Passwords: Argon2id at rest, one checked at a time, and longer and longer waits for whoever guesses.

Argon2id with the second recommended option of RFC 9106 (64 MiB, 3 passes). One at a time, so that guessers cannot take the
machine's memory; names that nobody has take as long as others, so that guessing tells nothing about them.
"""

from __future__ import annotations

import threading

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from farshore.core.errors import Invalid, Unauthenticated, Unavailable
from farshore.hub import moments

MIN, MAX = 12, 200
FREE = 5
"""Wrong passwords before a name has to wait."""
LONGEST = 900.0
REMEMBERED = 10_000


class Passwords:
    """Hashes and checks.

    Args:
        clock: tells the time.

    """

    def __init__(self, clock: moments.Clock) -> None:
        self._clock = clock
        self._hasher = PasswordHasher(time_cost=3, memory_cost=64 << 10, parallelism=4, type=Type.ID)
        self._one = threading.Lock()
        self._nobody = ""
        self._wrong: dict[str, tuple[int, float]] = {}

    def hash(self, name: str, password: str) -> str:
        """What is kept of a password.

        Raises:
            Invalid: too short, too long, or the name itself.

        """
        if not MIN <= len(password) <= MAX or password.lower() == name.lower():
            raise Invalid(f"choose a password of {MIN} to {MAX} characters that is not the name")
        with self._one:
            return self._hasher.hash(password)

    def check(self, name: str, kept: str, password: str) -> None:
        """Pass if ``password`` is the one that ``kept`` was made from.

        Args:
            name: who says to be; wrong passwords are counted by it.
            kept: what :meth:`hash` gave; "" for nobody.
            password: theirs.

        Raises:
            Unauthenticated: it is not.
            Unavailable: after many wrong ones, for a while; also for the right one.

        """
        with self._one:
            count, until = self._wrong.get(name, (0, 0.0))
            if self._clock() < until:
                raise Unavailable(f"too many wrong passwords: wait {until - self._clock():.0f} s")
            self._nobody = self._nobody or self._hasher.hash("nobody's password")
            try:
                self._hasher.verify(kept or self._nobody, password[: MAX + 1])
                right = bool(kept)
            except (VerificationError, InvalidHashError):
                right = False
            if right:
                self._wrong.pop(name, None)
                return
            count += 1
            if len(self._wrong) >= REMEMBERED:
                self._wrong.clear()
            self._wrong[name] = count, self._clock() + (min(2.0 ** (count - FREE), LONGEST) if count >= FREE else 0.0)
        raise Unauthenticated("wrong name or password")
