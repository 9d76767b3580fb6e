"""What clients are told, and what they say, as bodies and topics."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from farshore.hub.hub import Hub
from farshore.hub.records.devices import Twin
from farshore.hub.records.messages import Received, Waiting
from farshore.mqtt import iothub
from farshore.mqtt.iothub import Bag, Identity


def desired(hub: Hub, row: Twin, change: dict[str, Any]) -> dict[str, Any]:
    """The desired section, or a change of it, as a client gets it: with an address that is fresh now, where one belongs.

    Args:
        hub: this one.
        row: the twin.
        change: all its desired values, or a merge patch to them.

    """
    fresh = hub.bundles.fresh(row.device, change) if row.module else change
    return {**fresh, "$version": row.desired.version}


def received(who: Identity, output: str, properties: Bag, body: bytes, now: float) -> Received:
    """A message that came in. One that is sent again has the same id and says the same; only both together are known again,
    since some give all their messages one id.
    """
    mid = properties.get(iothub.MESSAGE)
    known = None
    if mid:
        said = hashlib.sha256(b"\0".join((output.encode(), body))).hexdigest()[:16]
        known = f"{mid}:{said}"
    return Received(0, now, who.device, who.module, output, known, properties, body)


def topic_of(who: Identity, message: Waiting) -> str:
    if message.input:
        return iothub.input_message(who, message.input, message.properties)
    return iothub.devicebound(who.device, message.properties)


def payload(data: bytes) -> Any:
    """A method's result: JSON, or None for what is none."""
    try:
        return msgspec.json.decode(data) if data else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
