"""Shared access signatures: how devices and services prove to IoT Hub that they hold a key.

``SharedAccessSignature sr={resource}&sig={signature}&se={expiry}[&skn={policy}]``, fields in any order. The signature is over the
resource *as it stands in the token*: clients percent-encode it in different ways, so it is never encoded anew
(https://learn.microsoft.com/azure/iot-hub/authenticate-authorize-sas).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable
from urllib.parse import quote, unquote

from msgspec import Struct

from farshore.core.errors import Invalid, Unauthenticated

SCHEME = "SharedAccessSignature"
MAX_TOKEN = 4096
KEY = 32
"""Bytes of a key that is made here; those that come from elsewhere have 16 to 64."""
MIN_KEY, MAX_KEY = 16, 64


class Token(Struct, frozen=True):
    """A token as it was sent; nothing of it is believed before :func:`verify`.

    Attributes:
        raw: the resource, encoded as the client did; this is what was signed.
        signature: HMAC-SHA256.
        expiry: the moment as it stands there; this, too, was signed.
        policy: name of the policy whose key signed; "" for a device's or module's own key.

    """

    raw: str
    signature: bytes
    expiry: str
    policy: str = ""

    @property
    def resource(self) -> str:
        """What the token is for, decoded: ``hub.example/devices/d1``."""
        return unquote(self.raw)

    @property
    def expires(self) -> int:
        """Seconds since the epoch."""
        return int(self.expiry)


def parse(text: str) -> Token:
    """A token from a password or an ``Authorization`` header.

    Args:
        text: the whole token, its scheme included.

    Raises:
        Unauthenticated: it is none.

    """
    if len(text) > MAX_TOKEN:
        raise Unauthenticated(f"token: at most {MAX_TOKEN} characters")
    scheme, _, rest = text.strip().partition(" ")
    if scheme.lower() != SCHEME.lower():
        raise Unauthenticated(f"send a token that begins with {SCHEME}")
    fields: dict[str, str] = {}
    for part in rest.strip().split("&"):
        name, equals, value = part.partition("=")
        if not equals or name in fields:
            raise Unauthenticated("token: every field stands there once, as name=value")
        fields[name] = value
    try:
        raw, expiry = fields["sr"], fields["se"]
        signature = base64.b64decode(unquote(fields["sig"]), validate=True)
    except (KeyError, binascii.Error, ValueError):
        raise Unauthenticated("token: sr, sig (base64) and se are needed") from None
    if not raw or not (expiry.isascii() and expiry.isdigit() and len(expiry) <= 12):
        raise Unauthenticated("token: sr names a resource, se is seconds since 1970")
    return Token(raw, signature, expiry, unquote(fields.get("skn", "")))


def verify(token: Token, keys: Iterable[str], now: float) -> None:
    """Pass if one of ``keys`` signed the token and it has not expired.

    Args:
        token: as :func:`parse` gave it.
        keys: primary and secondary, base64.
        now: seconds since the epoch.

    Raises:
        Unauthenticated: it is not so.

    """
    signed = False
    for key in keys:  # all of them, whichever fits: how long it takes says nothing
        if len(_bytes(key)) >= MIN_KEY:  # "" is no key: anybody can sign with it
            signed |= hmac.compare_digest(_mac(key, token.raw, token.expiry), token.signature)
    if not signed:
        raise Unauthenticated("token: signed with another key; copy the connection string again")
    if token.expires <= now:
        raise Unauthenticated("token: expired; make a new one, and check the clock of the one who made it")


def names(token: Token, hosts: Iterable[str], path: str) -> bool:
    """Whether the token is for exactly this resource: what is asked of an identity's own key.

    Args:
        token: as :func:`parse` gave it.
        hosts: every name by which the hub is known; case and port do not count.
        path: below the host, e.g. ``devices/d1/modules/m1``.

    """
    host, below = _split(token.resource)
    return host in {_host(one) for one in hosts} and below == path.lower().split("/")


def covers(token: Token, hosts: Iterable[str], path: str) -> bool:
    """Whether the token is for this resource or one above it, by whole segments: what is asked of a policy's key.

    Args:
        token: as :func:`parse` gave it.
        hosts: as :func:`names`.
        path: below the host; "" for the hub itself.

    """
    host, below = _split(token.resource)
    wanted = path.lower().split("/") if path else []
    return host in {_host(one) for one in hosts} and wanted[: len(below)] == below


def sign(resource: str, key: str, expires: int, policy: str = "") -> str:
    """A token, as clients make them.

    Args:
        resource: decoded, e.g. ``hub.example/devices/d1``.
        key: base64.
        expires: seconds since the epoch.
        policy: whose key it is; "" for a device's or module's own.

    Raises:
        Invalid: the key is none.

    """
    raw = quote(resource, safe="")
    signature = quote(base64.b64encode(_mac(check_key(key), raw, str(expires))).decode(), safe="")
    named = f"&skn={quote(policy, safe='')}" if policy else ""
    return f"{SCHEME} sr={raw}&sig={signature}&se={expires}{named}"


def digest(key: str, data: bytes) -> str:
    """HMAC-SHA256 by a key, base64: what IoT Edge's workload API signs, and how keys are derived from a group's key.

    Raises:
        Invalid: the key is none.

    """
    return base64.b64encode(hmac.digest(_bytes(check_key(key)), data, hashlib.sha256)).decode()


def check_key(key: str) -> str:
    """``key`` if it is one.

    Raises:
        Invalid: it is not base64 of 16 to 64 bytes.

    """
    if not MIN_KEY <= len(_bytes(key)) <= MAX_KEY:
        raise Invalid(f"key: base64 of {MIN_KEY} to {MAX_KEY} bytes is needed")
    return key


def _mac(key: str, raw: str, expiry: str) -> bytes:
    # A resource may hold what no text encoding takes (it came from the wire): such a one was signed by nobody.
    return hmac.digest(_bytes(key), f"{raw}\n{expiry}".encode("utf-8", "surrogatepass"), hashlib.sha256)


def _bytes(key: str) -> bytes:
    try:
        return base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _split(resource: str) -> tuple[str, list[str]]:
    host, _, path = resource.lower().strip("/").partition("/")
    return _host(host), path.split("/") if path else []


def _host(name: str) -> str:
    bare, colon, port = name.lower().rpartition(":")
    return bare if colon and port.isdigit() and not bare.endswith(":") else name.lower()
