"""The text that an operator hands to a device: a one-time secret, and pins that say which hub is meant.

``farshore1.<secret>[.<name>=<pin>]…``: the secret is 256 bits in base64url; a pin is a SHA-256 in base64url. Pins of unknown
names are ignored, so that an older device understands a newer hub's text. The secret alone, without ``farshore1.``, is an
invitation without pins.
"""

from __future__ import annotations

import re

from msgspec import Struct

from farshore.core.errors import Invalid

PREFIX = "farshore1"
MAX_TEXT = 1024

_SECRET = re.compile(r"[A-Za-z0-9_-]{16,128}\Z")
_PIN = re.compile(r"([a-z]{1,16})=([A-Za-z0-9_-]{43})\Z")


class Invitation(Struct, frozen=True):
    """What an enrolment token says.

    Attributes:
        secret: sent to the hub, once.
        ca: pin of the hub's certificate authority (SHA-256 of its public key's SubjectPublicKeyInfo); "" for none.
        root: pin of the first trust root (SHA-256 of its bytes); "" for none.

    """

    secret: str
    ca: str = ""
    root: str = ""

    def __str__(self) -> str:
        pins = [f"{name}={pin}" for name, pin in (("ca", self.ca), ("root", self.root)) if pin]
        return ".".join([PREFIX, self.secret, *pins])


def parse(text: str) -> Invitation:
    """Read an invitation.

    Raises:
        Invalid: it is none; the message does not repeat it, for it may hold a secret.

    """
    parts = text.strip().split(".")
    if parts[0] == PREFIX:
        parts = parts[1:]
    pins = [_PIN.match(part) for part in parts[1:]]
    if len(text) > MAX_TEXT or not parts or not _SECRET.match(parts[0]) or None in pins:
        raise Invalid("this is no enrolment token: give the one that `farshore device token` printed, whole")
    found = {pin[1]: pin[2] for pin in pins if pin is not None}
    if len(found) != len(pins):
        raise Invalid("this enrolment token names a pin twice: make a new one")
    return Invitation(parts[0], found.get("ca", ""), found.get("root", ""))
