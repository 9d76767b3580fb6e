"""Envelopes: what is signed is what is believed, nothing else."""

import base64
import json

import pytest

from farshore.core import trust
from farshore.core.errors import Denied, FarshoreError, Invalid

KEY, OTHER = trust.SigningKey(b"k" * 32), trust.SigningKey(b"o" * 32)
TRUSTED = {KEY.public.id: KEY.public}
PAYLOAD = b'{"a":1}'


def test_round_trip():
    assert trust.unseal(trust.seal(PAYLOAD, [KEY]), TRUSTED) == PAYLOAD


def test_known_answer_of_the_pre_authentication_encoding():
    # from the DSSE specification, protocol.md
    assert trust._pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


@pytest.mark.parametrize("signers", [[], [OTHER]])
def test_a_stranger_is_denied(signers):
    with pytest.raises(Denied):
        trust.unseal(trust.seal(PAYLOAD, signers), TRUSTED)


def test_a_stranger_with_the_right_key_id_is_denied():
    envelope = json.loads(trust.seal(PAYLOAD, [OTHER]))
    envelope["signatures"][0]["keyid"] = KEY.public.id
    with pytest.raises(Denied):
        trust.unseal(json.dumps(envelope).encode(), TRUSTED)


def test_one_key_twice_does_not_meet_a_threshold_of_two():
    both = {**TRUSTED, OTHER.public.id: OTHER.public}
    with pytest.raises(Denied):
        trust.unseal(trust.seal(PAYLOAD, [KEY, KEY]), both, threshold=2)
    assert trust.unseal(trust.seal(PAYLOAD, [KEY, OTHER]), both, threshold=2) == PAYLOAD


def test_another_type_is_refused():
    with pytest.raises(Invalid):
        trust.unseal(trust.seal(PAYLOAD, [KEY], "text/plain"), TRUSTED)


def test_every_flipped_bit_is_refused_or_means_the_same():
    envelope = trust.seal(PAYLOAD, [KEY])
    for position in range(len(envelope)):
        for bit in (1, 16, 128):
            bent = bytearray(envelope)
            bent[position] ^= bit
            try:
                assert trust.unseal(bytes(bent), TRUSTED) == PAYLOAD
            except FarshoreError:
                pass


def test_keys_have_one_text_form():
    text = str(KEY.public)
    assert trust.PublicKey.parse(text).raw == KEY.public.raw
    for bad in ["", "rsa:AAAA", "ed25519:", "ed25519:!!", "ed25519:" + base64.b64encode(b"x" * 31).decode()]:
        with pytest.raises(Invalid):
            trust.PublicKey.parse(bad)
    with pytest.raises(Invalid):
        trust.SigningKey(b"short")
