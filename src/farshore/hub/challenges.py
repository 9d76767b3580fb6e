"""Challenges: something fresh that a device signs to prove that it holds its key now.

A challenge is ``<moment>~<mac>``: seconds since the epoch, and HMAC-SHA256 (base64url, no padding) over them, the device's
id, and how often its bearer was renewed. Nothing is stored: a renewal makes every challenge that was out worthless.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re

from farshore.core.errors import Unauthenticated

SECONDS = 300
_FORM = re.compile(r"([0-9]{1,12})~([A-Za-z0-9_-]{43})\Z")


class Challenges:
    """Writes and checks challenges.

    Args:
        secret: at least 32 secret bytes, the same over restarts.

    """

    def __init__(self, secret: bytes) -> None:
        assert len(secret) >= 32
        self._secret = secret

    def write(self, device: str, turn: int, now: float) -> str:
        """A challenge for ``device``, whose bearer was renewed ``turn`` times."""
        return f"{int(now)}~{self._mac(int(now), device, turn)}"

    def check(self, challenge: str, device: str, turn: int, now: float) -> None:
        """Pass if ``challenge`` was written for this, not long ago.

        Raises:
            Unauthenticated: it was not: ask for a new one.

        """
        form = _FORM.match(challenge)
        moment = int(form[1]) if form else 0
        if form is None or not hmac.compare_digest(form[2], self._mac(moment, device, turn)):
            raise Unauthenticated("this challenge was answered already, or is none: ask for a new one")
        if abs(now - moment) > SECONDS:  # either way: clocks are set back, too
            raise Unauthenticated("this challenge is too old: ask for a new one")

    def _mac(self, moment: int, device: str, turn: int) -> str:
        said = f"farshore-challenge/1\n{moment}\n{device}\n{turn}".encode()
        return base64.urlsafe_b64encode(hmac.digest(self._secret, said, hashlib.sha256)).rstrip(b"=").decode()
