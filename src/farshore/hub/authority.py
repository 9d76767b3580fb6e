"""A hub that is its own certificate authority, for whoever has no certificate for it.

P-256, because its handshakes are small. The authority's key never leaves the data folder; its fingerprint goes out with every
enrolment token, so that devices believe this hub and no other. The hub's own certificate lives a season and is renewed in time.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from farshore.core.errors import Invalid
from farshore.store import files
from farshore.tls import pins

AUTHORITY_DAYS = 20 * 365
DAYS = 90
RENEW_DAYS = 30
_BACK = dt.timedelta(days=1)
"""Certificates begin to hold a little earlier than now: clocks of devices go wrong."""


@dataclass(frozen=True, slots=True)
class Authority:
    """Files of one hub's authority, and what it signed for the hub.

    Attributes:
        pem: the authority's certificate.
        pin: its fingerprint, as enrolment tokens carry it.
        certificate: file with the hub's own certificate.
        key: file with its key.
        renew: moment from which the hub's certificate should be made anew.

    """

    pem: bytes
    pin: str
    certificate: Path
    key: Path
    renew: float


def settle(folder: Path, names: Sequence[str], now: float) -> Authority:
    """The authority in ``folder``, made at the first call, with a certificate of the hub that is good for ``names``.

    Args:
        folder: for its files; made if need be.
        names: host names and addresses by which the hub is reached.
        now: seconds since the epoch.

    Raises:
        Invalid: a file is damaged, or a name is none.
        Unavailable: the disk does not take it.

    """
    files.make_folder(folder, mode=0o700)
    files.sweep(folder)
    ca_key = _key(folder / "ca.key")
    ca = _authority(folder / "ca.pem", ca_key, now)
    key, path = _key(folder / "hub.key"), folder / "hub.pem"
    wanted = [_name(name) for name in names]
    found = _load(path) if path.exists() else None
    if found is None or not _holds(found, key, ca, wanted, now):
        found = _sign(key, ca, ca_key, wanted, now)
        files.write_atomic(path, found.public_bytes(Encoding.PEM))
    pem = ca.public_bytes(Encoding.PEM)
    renew = (found.not_valid_after_utc - dt.timedelta(days=RENEW_DAYS)).timestamp()
    return Authority(pem, pins.pin_of(pem), path, folder / "hub.key", renew)


def _holds(
    found: x509.Certificate,
    key: ec.EllipticCurvePrivateKey,
    ca: x509.Certificate,
    names: list[x509.GeneralName],
    now: float,
) -> bool:
    """Whether a certificate is this authority's, for this key and these names, and for a while yet."""
    try:
        found.verify_directly_issued_by(ca)
        said = list(found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    moment = dt.datetime.fromtimestamp(now, dt.UTC)
    lasts = found.not_valid_before_utc <= moment < found.not_valid_after_utc - dt.timedelta(days=RENEW_DAYS)
    return lasts and said == names and found.public_key() == key.public_key()


def _authority(path: Path, key: ec.EllipticCurvePrivateKey, now: float) -> x509.Certificate:
    if path.exists():
        return _load(path)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Farshore hub's own authority")])
    made = (
        _builder(name, key.public_key(), now, AUTHORITY_DAYS)
        .issuer_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    files.write_atomic(path, made.public_bytes(Encoding.PEM))
    return made


def _sign(
    key: ec.EllipticCurvePrivateKey, ca: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey,
    names: list[x509.GeneralName], now: float,
) -> x509.Certificate:  # fmt: skip
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Farshore hub")])
    return (
        _builder(name, key.public_key(), now, DAYS)
        .issuer_name(ca.subject)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )


def _builder(name: x509.Name, key: ec.EllipticCurvePublicKey, now: float, days: int) -> x509.CertificateBuilder:
    moment = dt.datetime.fromtimestamp(now, dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - _BACK)
        .not_valid_after(moment + dt.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificates, key_cert_sign=certificates, crl_sign=certificates, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text.strip("[]")))
    except ValueError:
        pass
    try:
        return x509.DNSName(text.encode("idna").decode())
    except ValueError:
        raise Invalid(f"{text[:80]!r} is no host name: give the one by which devices reach this hub") from None


def _key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The P-256 key in ``path``, made at the first call; readable by nobody else."""
    if not path.exists():
        made = ec.generate_private_key(ec.SECP256R1())
        plain = (Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        files.write_atomic(path, made.private_bytes(*plain), mode=0o600)
    try:
        found = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError):
        found = None
    if not isinstance(found, ec.EllipticCurvePrivateKey):
        raise Invalid(f"{path} is damaged: restore it from a backup")
    return found


def _load(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError:
        raise Invalid(f"{path} is damaged: restore it from a backup") from None
