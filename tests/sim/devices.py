"""Devices as the hub sees them: keys, bearers, and the requests that they sign."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from farshore.core import invitation, possession
from farshore.core.trust import SigningKey
from farshore.core.wire import EnrolRequest, RenewRequest


def key_of(device: str) -> SigningKey:
    return SigningKey(hashlib.sha256(device.encode()).digest())


def bearer_of(device: str) -> str:
    return f"bearer-of-{device}".ljust(32, "x").replace(".", "_")


def enrol_body(
    device: str, token: str = "", *, key: SigningKey | None = None, bearer: str | None = None, **changes: Any
) -> dict[str, Any]:
    """What a device sends to enrol, signed by its key; ``changes`` are made after that."""
    key = key or key_of(device)
    request = EnrolRequest(
        device,
        str(key.public),
        possession.hashed(bearer or bearer_of(device)),
        token=invitation.parse(token).secret if token else "",
    )
    return {**msgspec.to_builtins(possession.sign(key, request)), **changes}


def renew_body(
    device: str, turn: int, challenge: str, bearer: str, *, key: SigningKey | None = None, **changes: Any
) -> dict[str, Any]:
    """What a device sends to renew its bearer, signed by its key; ``changes`` are made after that."""
    request = RenewRequest(device, turn, challenge, possession.hashed(bearer))
    return {**msgspec.to_builtins(possession.sign(key or key_of(device), request)), **changes}
