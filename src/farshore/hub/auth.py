"""Secrets: how they are made, hashed, and read from requests.

All secrets are 256 random bits, so a plain SHA-256 is enough at rest; looking a hash up tells nothing by its timing.
"""

from __future__ import annotations

import re
import secrets

from farshore.core.errors import Unauthenticated
from farshore.core.possession import hashed

__all__ = ["bearer", "hashed", "make_id", "make_secret"]

_BEARER = re.compile(r"[Bb]earer +([A-Za-z0-9_-]{16,128})\Z")


def make_secret() -> str:
    """256 random bits, base64url."""
    return secrets.token_urlsafe(32)


def make_id() -> str:
    """A short random name for a row that operators speak of."""
    return secrets.token_hex(6)


def bearer(header: str | None) -> str:
    """The secret in an ``Authorization`` header.

    Raises:
        Unauthenticated: there is none, or it is not ``Bearer`` with a token.

    """
    if header is None:
        raise Unauthenticated("no credential: send 'Authorization: Bearer <token>'")
    form = _BEARER.match(header.strip())
    if form is None:
        raise Unauthenticated("malformed credential: send 'Authorization: Bearer <token>'")
    return form[1]
