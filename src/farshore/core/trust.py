"""Ed25519 keys. One key type only, so that no peer can choose a weaker one. What is signed with them: :mod:`farshore.trust`."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import NewType

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from farshore.core.errors import Invalid

KeyId = NewType("KeyId", str)
"""First 16 hex digits of the SHA-256 of the raw public key; a hint for look-up, never trusted by itself."""


class PublicKey:
    """An Ed25519 public key; its text form is ``ed25519:<base64 of the 32 raw bytes>``."""

    __slots__ = ("_key", "raw")

    def __init__(self, raw: bytes) -> None:
        try:
            self._key = Ed25519PublicKey.from_public_bytes(raw)
        except ValueError:
            raise Invalid("an Ed25519 public key has 32 bytes") from None
        self.raw = raw

    @classmethod
    def parse(cls, text: str) -> PublicKey:
        """Read the text form.

        Raises:
            Invalid: not ``ed25519:`` and base64 of 32 bytes.

        """
        kind, _, encoded = text.partition(":")
        if kind != "ed25519":
            raise Invalid(f"not a public key: {text[:60]!r} (expected ed25519:<base64>)")
        return cls(_unbase64(encoded, "public key"))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PublicKey) and other.raw == self.raw

    def __hash__(self) -> int:
        return hash(self.raw)

    def __str__(self) -> str:
        return "ed25519:" + base64.b64encode(self.raw).decode()

    @property
    def id(self) -> KeyId:
        return KeyId(hashlib.sha256(self.raw).hexdigest()[:16])

    def verifies(self, signature: bytes, message: bytes) -> bool:
        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            return False
        return True


class SigningKey:
    """An Ed25519 private key.

    Args:
        seed: 32 secret bytes.

    """

    __slots__ = ("_key", "public", "seed")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != 32:
            raise Invalid("an Ed25519 private key has 32 bytes")
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.seed = seed
        self.public = PublicKey(self._key.public_key().public_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)


def _unbase64(text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Invalid(f"{what} is not base64") from None
