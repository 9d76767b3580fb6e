"""A hub's order to one device: what it wants now, and proof that it is now.

The order names the digest of the whole desired section, so it is as small for a hundred models as for one, and covers what
is not about models too. It echoes the device's nonce: whoever hears it knows that the hub spoke after being asked, whatever
any clock says; and so the hub's time is the device's time.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Signature
from tuf.api.metadata import Targets

from farshore.core import digest as digests
from farshore.core import documents
from farshore.core.digest import Digest
from farshore.core.errors import Corrupt, Denied, Invalid
from farshore.core.manifest import DigestText, Name
from farshore.core.trust import SigningKey
from farshore.trust.metadata import ED25519

ROLE = "director"
MAX_ORDER = 4096
LIFE = 7 * 86400
"""Seconds for which an order stands while the hub is silent."""

Nonce = Annotated[str, Meta(pattern=r"^([A-Za-z0-9_-]{16,64})?\Z")]
Seconds = Annotated[int, Meta(ge=0, le=1 << 40)]


class Order(Struct, frozen=True, rename={"kind": "_type"}):
    """See the module.

    Attributes:
        device: whom it is for.
        seq: ``$version`` of the desired section; never goes back.
        nonce: the device's, given back; "" in an order that was not asked for.
        issued: seconds since 1970 by the hub's clock.
        expires: seconds since 1970 after which it no longer stands.
        desired: digest of the desired section in canonical JSON, ``$version`` included.

    """

    device: Name
    seq: Annotated[int, Meta(ge=0, le=1 << 53)]
    nonce: Nonce
    issued: Seconds
    expires: Seconds
    desired: DigestText
    kind: Literal["director"] = "director"


class _Sealed(Struct, frozen=True):
    signed: dict[str, Any]
    signatures: Annotated[list[dict[str, str]], Meta(max_length=16)]


def digest_of(desired: dict[str, Any]) -> Digest:
    """The digest that an order names a desired section by."""
    return digests.of(documents.canonical(desired))


def seal(order: Order, key: SigningKey) -> bytes:
    """Sign an order. The signature covers the canonical JSON of its members, as in TUF metadata."""
    signed = documents.builtins(order)
    signature = {"keyid": str(key.public.id), "sig": key.sign(documents.canonical(signed)).hex()}
    return documents.canonical({"signed": signed, "signatures": [signature]})


def unseal(data: bytes, targets: Targets) -> Order:
    """The order, if enough of the director's keys that ``targets`` delegates to signed it.

    Raises:
        Corrupt: malformed.
        Denied: not signed by them, or no director is delegated to.

    """
    try:
        sealed = documents.decode(data, _Sealed, what="the director's order", limit=MAX_ORDER)
        order = documents.convert(sealed.signed, Order, what="the director's order")
        message = documents.canonical(sealed.signed)
        signatures = {one["keyid"]: Signature(one["keyid"], one["sig"]) for one in sealed.signatures}
    except (Invalid, KeyError) as error:
        raise Corrupt(f"the director's order cannot be read: {error}") from error
    try:
        wanted = targets.get_delegated_role(ROLE)
    except ValueError:
        raise Denied("the director's order: the targets role delegates to no director") from None
    good = set()
    for keyid in wanted.keyids:
        key = targets.get_key(keyid)
        if keyid in signatures and (key.keytype, key.scheme) in ED25519:
            try:
                key.verify_signature(signatures[keyid], message)
            except UnverifiedSignatureError:
                continue
            good.add(str(key.keyval.get("public")))
    if len(good) < wanted.threshold:
        raise Denied(f"the director's order: signed by {len(good)} trusted keys, {wanted.threshold} are needed")
    return order


def check(order: Order, *, device: str, nonce: str, seq: int, desired: Digest) -> None:
    """Pass if an order is for this device, answers this question, goes not back, and is about this desired section.

    Args:
        order: as unsealed.
        device: own id.
        nonce: of the question; "" where none was asked (an order that came on a stick).
        seq: the highest obeyed so far.
        desired: digest of the section that came with it; when none did, the one that the last order named.

    Raises:
        Denied: it does not.

    """
    if order.device != device:
        raise Denied(f"the director's order is for {order.device}, not for {device}")
    if nonce and order.nonce != nonce:
        raise Denied("the director's order answers another question: it is a replay")
    if order.seq < seq:
        raise Denied(f"the director's order {order.seq} is older than {seq}")
    if order.desired != desired:
        raise Denied("the director's order is about another desired section than the one at hand")


def plain(order: Order) -> dict[str, Any]:
    """An order as built-ins, for tests and for showing."""
    return dict(msgspec.to_builtins(order))
