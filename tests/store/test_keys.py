from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from farshore.core.errors import Denied, Invalid, NotFound
from farshore.core.trust import SigningKey
from farshore.store import keys

KEY = SigningKey(b"k" * 32)


@pytest.mark.parametrize("passphrase", [None, b"a long one"])
def test_a_key_comes_back_and_is_its_owners_alone(tmp_path, passphrase):
    path = tmp_path / "a.key"
    keys.write(path, KEY, passphrase)
    assert path.stat().st_mode & 0o777 == 0o600
    assert keys.read(path, passphrase).seed == KEY.seed
    assert (KEY.seed.hex() in path.read_bytes().hex()) is False


def test_a_sealed_key_needs_its_passphrase(tmp_path):
    keys.write(tmp_path / "a.key", KEY, b"right")
    for wrong in (None, b"wrong"):
        with pytest.raises(Denied, match="passphrase"):
            keys.read(tmp_path / "a.key", wrong)
    keys.write(tmp_path / "open.key", KEY)
    assert keys.read(tmp_path / "open.key", b"not needed").seed == KEY.seed


def test_what_is_no_key(tmp_path):
    with pytest.raises(NotFound):
        keys.read(tmp_path / "absent.key")
    path = tmp_path / "bad.key"
    other = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for data in (b"", b"short", b"\xff" * 100, b"x" * 20_000, other):
        path.write_bytes(data)
        with pytest.raises(Invalid, match=r"bad\.key"):
            keys.read(path)
