"""One document of TUF metadata: read with limits, verified against the keys of the role that delegates to it.

One key type only, so that no peer can choose a weaker one, and so that a fleet never strands on a change of encodings.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Key, SSlibKey
from tuf.api.metadata import Metadata, Root, Signed, Snapshot, Targets, Timestamp
from tuf.api.serialization import DeserializationError, SerializationError

from farshore.core.errors import Corrupt, Denied, TooLarge, Unavailable
from farshore.core.trust import PublicKey

T = TypeVar("T", Root, Timestamp, Snapshot, Targets)
Delegator = Root | Targets
Kinds = frozenset[tuple[str, str]]

ED25519: Kinds = frozenset({("ed25519", "ed25519")})
"""Key type and scheme that Farshore takes."""

LIMITS = {"root": 512_000, "timestamp": 16_384, "snapshot": 2_000_000}
"""Bytes of the largest document of a role; python-tuf's own limits."""

MAX_TARGETS = 5_000_000
"""Likewise of targets and of every role that it delegates to."""


class Expired(Unavailable):
    """Signed, but for a time that is over: wait for newer metadata."""


@dataclass(frozen=True, slots=True)
class Document(Generic[T]):
    """A document that was read: its exact bytes, its signed part, the signatures over that, and by whom it was delegated."""

    raw: bytes
    signed: T
    metadata: Metadata[T]
    by: Targets | None = None

    @property
    def version(self) -> int:
        return self.signed.version


def limit_of(role: str) -> int:
    """Bytes of the largest document taken for a role."""
    return LIMITS.get(role, MAX_TARGETS)


def read(data: bytes, kind: type[T], role: str) -> Document[T]:
    """Parse a document; its signatures are not looked at.

    Args:
        data: JSON.
        kind: what it must be.
        role: whose document, for its limit and for messages.

    Raises:
        TooLarge: longer than the role may be.
        Corrupt: not such a document.

    """
    if len(data) > limit_of(role):
        raise TooLarge(f"metadata of {role}: {len(data)} bytes; at most {limit_of(role)} are taken")
    try:
        metadata: Metadata[Any] = Metadata.from_bytes(data)
        metadata.signed_bytes  # noqa: B018 - what has no canonical form cannot have been signed
    except (DeserializationError, SerializationError) as error:
        raise Corrupt(f"metadata of {role} cannot be read: {str(error.__cause__ or error)[:200]}") from error
    if not isinstance(metadata.signed, kind):
        raise Corrupt(f"metadata of {role} says that it is {metadata.signed.type}")
    if type(metadata.signed.version) is not int:
        raise Corrupt(f"metadata of {role}: its version is no whole number")
    return Document(bytes(data), metadata.signed, metadata)


def verify(delegator: Delegator, role: str, document: Document[Any], kinds: Kinds) -> None:
    """Pass if enough of the keys that ``delegator`` names for ``role`` signed the document.

    Two ids of one key count once.

    Args:
        delegator: a trusted root or targets.
        role: whose document it is.
        document: as read.
        kinds: key types and schemes that count.

    Raises:
        Denied: nobody may sign that role, or too few did.

    """
    try:
        wanted = delegator.get_delegated_role(role)
    except ValueError:
        raise Denied(f"metadata of {role}: no such role is delegated") from None
    payload, good = document.metadata.signed_bytes, set()
    for keyid in wanted.keyids:
        key, signature = _key(delegator, keyid), document.metadata.signatures.get(keyid)
        if key is None or signature is None or (key.keytype, key.scheme) not in kinds:
            continue
        try:
            key.verify_signature(signature, payload)
        except UnverifiedSignatureError:
            continue
        good.add((key.keytype, str(key.keyval.get("public"))))
    if len(good) < wanted.threshold:
        raise Denied(f"metadata of {role}: signed by {len(good)} trusted keys, {wanted.threshold} are needed")


def check_expiry(signed: Signed, role: str, now: datetime | None) -> None:
    """Pass if the document's time is not over.

    Args:
        signed: its signed part.
        role: for the message.
        now: the time; None asks nothing.

    Raises:
        Expired: it is.

    """
    if now is not None and signed.is_expired(now):
        raise Expired(f"metadata of {role} expired on {signed.expires:%Y-%m-%d %H:%M} UTC")


def tuf_key(public: PublicKey) -> SSlibKey:
    """A public key as TUF writes it, under our own short id."""
    return SSlibKey(public.id, "ed25519", "ed25519", {"public": public.raw.hex()})


def pin_of(root: bytes) -> str:
    """What an enrolment token names a root by: the SHA-256 of its bytes in base64url."""
    return base64.urlsafe_b64encode(hashlib.sha256(root).digest()).decode().rstrip("=")


def moment(seconds: float) -> datetime:
    """Seconds since 1970 as TUF's type, to the second; times that it cannot say become its nearest."""
    return datetime.fromtimestamp(min(max(int(seconds), 0), _LAST), UTC)


_LAST = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp())


def _key(delegator: Delegator, keyid: str) -> Key | None:
    try:
        return delegator.get_key(keyid)
    except ValueError:
        return None
