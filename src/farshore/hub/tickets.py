"""Tickets: short-lived permission for one device to fetch one object.

A ticket is ``<expiry>~<device>~<mac>``: seconds since the epoch, the device's id, and HMAC-SHA256 (base64url, no padding)
over both and the object's digest. The digest stands in the address beside it, so a ticket opens nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re

from farshore.core.digest import Digest
from farshore.core.errors import Denied

_FORM = re.compile(r"([0-9]{1,12})~([A-Za-z0-9\-:.%_*?!(),=@$']{1,128})~([A-Za-z0-9_-]{43})\Z")


class Tickets:
    """Writes and reads tickets.

    Args:
        secret: at least 32 secret bytes, the same over restarts.
        seconds: life of a ticket.

    """

    def __init__(self, secret: bytes, seconds: int) -> None:
        assert len(secret) >= 32
        self._secret = secret
        self.seconds = seconds

    def write(self, device: str, digest: Digest, now: float) -> str:
        """A ticket for ``device`` to fetch ``digest`` until ``now`` + life."""
        expires = int(now) + self.seconds
        return f"{expires}~{device}~{self._mac(expires, device, digest)}"

    def read(self, ticket: str, digest: Digest, now: float) -> str:
        """The device that ``ticket`` was written for.

        Raises:
            Denied: malformed, for another object, tampered with, or expired.

        """
        form = _FORM.match(ticket)
        if form is None:
            raise Denied("not a ticket: ask for one")
        expires, device, mac = int(form[1]), form[2], form[3]
        if not hmac.compare_digest(mac, self._mac(expires, device, digest)):
            raise Denied("this ticket is not for this object: ask for a new one")
        if now >= expires:
            raise Denied("the ticket has expired: ask for a new one")
        return device

    def _mac(self, expires: int, device: str, digest: Digest) -> str:
        said = f"farshore-ticket/1\n{expires}\n{device}\n{digest}".encode()
        code = hmac.digest(self._secret, said, hashlib.sha256)
        return base64.urlsafe_b64encode(code).rstrip(b"=").decode()
