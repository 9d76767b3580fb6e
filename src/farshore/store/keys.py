"""Private keys as files: PKCS #8 in PEM, one key a file, readable by nobody else, sealed by a passphrase if there is one."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from farshore.core.errors import Denied, Invalid, NotFound
from farshore.core.trust import SigningKey
from farshore.store import files

MAX_FILE = 16 << 10


def write(path: Path, key: SigningKey, passphrase: bytes | None = None) -> None:
    """Keep a key.

    Args:
        path: where; its folder exists.
        key: to keep.
        passphrase: seals it; None leaves it open to who can read the file.

    Raises:
        Unavailable: disk full or failing.

    """
    sealing = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    private = Ed25519PrivateKey.from_private_bytes(key.seed)
    files.write_atomic(path, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, sealing), mode=0o600)


def read(path: Path, passphrase: bytes | None = None) -> SigningKey:
    """A key that was kept.

    Raises:
        NotFound: no such file.
        Denied: the passphrase is missing or wrong.
        Invalid: no Ed25519 key in PEM.

    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise NotFound(f"no key {path}") from None
    except OSError as error:
        raise Invalid(f"{path}: cannot be read ({error.strerror})") from error
    if len(data) > MAX_FILE:
        raise Invalid(f"{path}: too long for a key")
    sealed = b"ENCRYPTED" in data
    if sealed and not passphrase:
        raise Denied(f"{path} is sealed: its passphrase is needed")
    try:
        key = load_pem_private_key(data, passphrase if sealed else None)
    except ValueError as error:
        if sealed:
            raise Denied(f"{path}: wrong passphrase, or a damaged file") from error
        raise Invalid(f"{path}: no private key in PEM") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise Invalid(f"{path}: an Ed25519 key is needed")
    return SigningKey(key.private_bytes_raw())
