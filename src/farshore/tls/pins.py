"""Pins: short names of certificate authorities that fit into a line of text."""

from __future__ import annotations

import base64
import hashlib
import hmac

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from farshore.core.errors import Denied, Invalid

MAX_PEM = 16 << 10


def pin_of(pem: bytes) -> str:
    """The pin of a certificate: SHA-256 of its public key (SubjectPublicKeyInfo, DER), base64url without padding.

    Args:
        pem: one certificate.

    Raises:
        Invalid: it is none.

    """
    return _pin(_certificate(pem))


def check(pem: bytes, pin: str) -> bytes:
    """The certificate in ``pem``, if it has that pin; alone, whatever else was sent with it.

    Raises:
        Invalid: there is none.
        Denied: it is another authority's.

    """
    found = _certificate(pem)
    if not hmac.compare_digest(_pin(found), pin):
        raise Denied(
            "this is not the hub of that token: its authority has another fingerprint; somebody may be in between"
        )
    return found.public_bytes(Encoding.PEM)


def _certificate(pem: bytes) -> x509.Certificate:
    if len(pem) > MAX_PEM:
        raise Invalid("a certificate is shorter than that")
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError:
        raise Invalid("no certificate in PEM") from None


def _pin(certificate: x509.Certificate) -> str:
    der = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()
