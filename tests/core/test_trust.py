"""Keys: one text form, one kind."""

import base64

import pytest

from farshore.core import trust
from farshore.core.errors import Invalid

KEY, OTHER = trust.SigningKey(b"k" * 32), trust.SigningKey(b"o" * 32)


def test_a_signature_is_of_one_key_and_one_message():
    signature = KEY.sign(b"message")
    assert KEY.public.verifies(signature, b"message")
    assert not OTHER.public.verifies(signature, b"message")
    assert not KEY.public.verifies(signature, b"massage")
    assert not KEY.public.verifies(signature[:-1], b"message")


def test_keys_have_one_text_form():
    text = str(KEY.public)
    assert trust.PublicKey.parse(text).raw == KEY.public.raw
    for bad in ["", "rsa:AAAA", "ed25519:", "ed25519:!!", "ed25519:" + base64.b64encode(b"x" * 31).decode()]:
        with pytest.raises(Invalid):
            trust.PublicKey.parse(bad)
    with pytest.raises(Invalid):
        trust.SigningKey(b"short")
