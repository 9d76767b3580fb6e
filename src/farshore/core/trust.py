"""Who says so: Ed25519 keys and signed envelopes.

An envelope is DSSE v1 (https://github.com/secure-systems-lab/dsse/blob/v1.0.0/protocol.md): the signature covers the
payload's type and exact bytes, so nothing is parsed before it is believed. One key type only, so that no peer can
choose a weaker one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from typing import Annotated, NewType

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Meta, Struct

from farshore.core import documents
from farshore.core.errors import Denied, Invalid

MANIFEST_TYPE = "application/vnd.farshore.manifest+json"
MAX_ENVELOPE = 2 << 20

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


class Signature(Struct, frozen=True):
    keyid: Annotated[str, Meta(max_length=64)]
    sig: Annotated[str, Meta(max_length=128)]


class Envelope(Struct, frozen=True, rename={"payload_type": "payloadType"}):
    """A payload with its signatures; ``payload`` and ``sig`` are base64."""

    payload_type: Annotated[str, Meta(max_length=128)]
    payload: Annotated[str, Meta(max_length=MAX_ENVELOPE)]
    signatures: Annotated[tuple[Signature, ...], Meta(max_length=16)]


def seal(payload: bytes, keys: list[SigningKey], payload_type: str = MANIFEST_TYPE) -> bytes:
    """Sign ``payload`` with all ``keys``; the envelope as JSON bytes."""
    message = _pae(payload_type, payload)
    signatures = tuple(Signature(keyid=key.public.id, sig=base64.b64encode(key.sign(message)).decode()) for key in keys)
    return documents.canonical(Envelope(payload_type, base64.b64encode(payload).decode(), signatures))


def unseal(
    envelope: bytes, trusted: Mapping[KeyId, PublicKey], payload_type: str = MANIFEST_TYPE, threshold: int = 1
) -> bytes:
    """The payload, if enough trusted keys signed it.

    Args:
        envelope: what :func:`seal` made.
        trusted: keys believed, by id.
        payload_type: the only type accepted.
        threshold: how many distinct trusted keys must have signed.

    Raises:
        Invalid: not an envelope of that type.
        Denied: too few valid signatures by trusted keys.

    """
    parsed = documents.decode(envelope, Envelope, what="envelope", limit=MAX_ENVELOPE)
    if parsed.payload_type != payload_type:
        raise Invalid(f"envelope holds {parsed.payload_type!r}, expected {payload_type!r}")
    payload = _unbase64(parsed.payload, "envelope payload")
    message = _pae(payload_type, payload)
    good: set[bytes] = set()
    for signature in parsed.signatures:
        key = trusted.get(KeyId(signature.keyid))
        if key is not None and key.verifies(_unbase64(signature.sig, "signature"), message):
            good.add(key.raw)
    if len(good) < threshold:
        raise Denied(f"envelope: {len(good)} valid signatures by trusted keys, {threshold} needed")
    return payload


def _pae(payload_type: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: lengths make the concatenation unambiguous."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _unbase64(text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Invalid(f"{what} is not base64") from None
