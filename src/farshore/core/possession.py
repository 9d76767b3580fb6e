"""Proof that who asks holds the private key: the request's statement, signed.

A statement is a JSON array that begins with its own name and number, so that a signature under one kind of request means
nothing under another.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import TypeVar

from msgspec.structs import replace

from farshore.core.errors import Denied
from farshore.core.trust import PublicKey, SigningKey
from farshore.core.wire import EnrolRequest, RenewRequest

R = TypeVar("R", EnrolRequest, RenewRequest)


def hashed(secret: str) -> str:
    """What is sent and kept of a secret in its stead: its SHA-256 in hex. Secrets are 256 random bits, so that is enough."""
    return hashlib.sha256(secret.encode()).hexdigest()


def sign(key: SigningKey, request: R) -> R:
    """``request`` with its signature by ``key``."""
    return replace(request, signature=base64.b64encode(key.sign(request.statement())).decode())


def check(key: PublicKey, request: EnrolRequest | RenewRequest) -> None:
    """Pass if ``request`` was signed by the holder of ``key``.

    Raises:
        Denied: it was not.

    """
    try:
        signature = base64.b64decode(request.signature, validate=True)
    except (binascii.Error, ValueError):
        signature = b""
    if not key.verifies(signature, request.statement()):
        raise Denied("the signature is not by this device's key")
