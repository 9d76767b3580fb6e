"""ID tokens of OpenID Connect, checked: who an issuer says has logged in. Pure.

Three algorithms, each bound to one kind of key, so that no token chooses how it is checked; keys come from the issuer's own set
and nowhere else. Source: OpenID Connect Core 1.0, section 3.1.3.7; RFC 7515 (JWS), RFC 7517 and RFC 8037 (keys), RFC 8725.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from typing import Any, NamedTuple, TypeGuard

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from farshore.core.errors import Denied

MAX_TOKEN = 8 << 10
MAX_TEXT = 255
SKEW = 60.0
"""Seconds by which the issuer's clock and ours may differ."""
MAX_AGE = 600.0
"""Seconds since a token was made: it came straight from the issuer."""
RSA_BITS = (2048, 8192)
_BRINGS_KEYS = {"crit", "jwk", "jku", "x5u", "x5c", "b64", "zip", "enc"}
"""What a header must not have: keys of its own, places to fetch them from, and rules that we would have to know."""

Key = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


class Expected(NamedTuple):
    """What a token must say to be the answer to one log-in at one issuer; ``audience`` is our client id."""

    issuer: str
    audience: str
    nonce: str


class Person(NamedTuple):
    """Who an issuer stands for: ``subject`` for ever; ``email`` only where the issuer has verified it, else ""."""

    issuer: str
    subject: str
    email: str


def check(token: str, keys: list[Any], expected: Expected, now: float) -> Person:
    """Who a token names.

    Args:
        token: compact JWS.
        keys: JWKs of the issuer's set.
        expected: of this log-in.
        now: seconds since the epoch.

    Raises:
        Denied: it proves nothing to us; the message says why.

    """
    if len(token) > MAX_TOKEN:
        raise Denied(f"the ID token is longer than {MAX_TOKEN} bytes")
    parts = token.split(".")
    if len(parts) != 3:
        raise Denied("the ID token is no signed token")
    header, claims = _object(parts[0]), _object(parts[1])
    _check_signature(header, keys, ".".join(parts[:2]).encode("ascii"), _bytes(parts[2]))
    _check_claims(claims, expected, now)
    subject, email = claims.get("sub"), claims.get("email")
    if not isinstance(subject, str) or not 0 < len(subject) <= MAX_TEXT:
        raise Denied("the ID token names nobody")
    verified = claims.get("email_verified") is True and isinstance(email, str) and len(email) <= MAX_TEXT
    return Person(expected.issuer, subject, email.lower() if verified and email else "")


def knows(token: str, keys: list[Any]) -> bool:
    """Whether the key that a token names is among ``keys``: if not, the issuer may have a newer set; errors as :func:`check`."""
    kid = _object(token[:MAX_TOKEN].partition(".")[0]).get("kid")
    return any(isinstance(one, dict) and one.get("kid") == kid for one in keys)


def _check_signature(header: dict[str, Any], keys: list[Any], signed: bytes, signature: bytes) -> None:
    if found := _BRINGS_KEYS & header.keys():
        raise Denied(f"the ID token's header has {min(found)}, which is not taken")
    kid = header.get("kid")
    held = [one for one in keys if isinstance(one, dict) and isinstance(kid, str) and one.get("kid") == kid]
    if len(held) != 1:
        raise Denied("the ID token is signed by a key that is not in the issuer's set")
    [jwk] = held
    alg = header.get("alg")
    if jwk.get("use", "sig") != "sig" or jwk.get("alg", alg) != alg:
        raise Denied("the ID token is signed by a key that is for something else")
    key = _key(jwk)
    try:
        if alg == "RS256" and isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
        elif alg == "ES256" and isinstance(key, ec.EllipticCurvePublicKey) and len(signature) == 64:
            halves = (int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))
            key.verify(encode_dss_signature(*halves), signed, ec.ECDSA(hashes.SHA256()))
        elif alg == "EdDSA" and isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, signed)
        else:
            raise Denied("the ID token's algorithm is not one of RS256, ES256, EdDSA with a key of that kind")
    except InvalidSignature:
        raise Denied("the ID token's signature is wrong") from None


def _check_claims(claims: dict[str, Any], expected: Expected, now: float) -> None:
    if claims.get("iss") != expected.issuer:
        raise Denied("the ID token is another issuer's")
    told = claims.get("aud")
    audience = told if isinstance(told, list) else [told]
    party = claims.get("azp", expected.audience if len(audience) == 1 else None)
    if expected.audience not in audience or party != expected.audience:
        raise Denied("the ID token is for somebody else")
    expires, made, begins = claims.get("exp"), claims.get("iat"), claims.get("nbf", 0)
    if not (_moment(expires) and _moment(made) and _moment(begins)):
        raise Denied("the ID token does not say from when to when it holds")
    if now >= expires + SKEW or now >= made + MAX_AGE:
        raise Denied("the ID token is too old: log in again")
    if max(made, begins) > now + SKEW:
        raise Denied("the ID token is from the future: look at the clocks of hub and issuer")
    nonce = claims.get("nonce")
    if not isinstance(nonce, str) or not hmac.compare_digest(nonce.encode(), expected.nonce.encode()):
        raise Denied("the ID token answers another log-in")


def _key(jwk: dict[str, Any]) -> Key:
    kind = jwk.get("kty")
    try:
        if kind == "RSA":
            modulus = int.from_bytes(_bytes(jwk.get("n")))
            if not RSA_BITS[0] <= modulus.bit_length() <= RSA_BITS[1]:
                raise Denied(f"the issuer's RSA key is not of {RSA_BITS[0]} to {RSA_BITS[1]} bits")
            return rsa.RSAPublicNumbers(int.from_bytes(_bytes(jwk.get("e"))), modulus).public_key()
        if kind == "EC" and jwk.get("crv") == "P-256":
            x, y = (int.from_bytes(_bytes(jwk.get(name))) for name in ("x", "y"))
            return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
        if kind == "OKP" and jwk.get("crv") == "Ed25519":
            return ed25519.Ed25519PublicKey.from_public_bytes(_bytes(jwk.get("x")))
    except ValueError:
        raise Denied("the issuer's key is damaged") from None
    raise Denied("the issuer's key is of a kind that is not taken: use RSA, P-256 or Ed25519")


def _moment(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1 << 53


def _bytes(text: Any) -> bytes:
    """base64url without padding, in its one form."""
    try:
        found = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise Denied("the ID token or its key is damaged") from None
    if base64.urlsafe_b64encode(found).rstrip(b"=") != text.encode():
        raise Denied("the ID token or its key is damaged")
    return found


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(_bytes(text), object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise Denied("the ID token is damaged") from None
    if not isinstance(found, dict):
        raise Denied("the ID token is damaged")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found
