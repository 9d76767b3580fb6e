import pytest
from tests.attacks.oidc_provider import Signer, compact

from farshore.core.errors import Denied
from farshore.hub import idtokens
from farshore.hub.idtokens import Expected, Person

NOW = 1_790_000_000.0
EXPECTED = Expected("https://id.example", "farshore", "n")
CLAIMS = {
    "iss": "https://id.example", "aud": "farshore", "nonce": "n", "sub": "s", "iat": NOW, "exp": NOW + 300,
    "email": "Kari@Example.org", "email_verified": True,
}  # fmt: skip


@pytest.fixture(scope="module", params=["RS256", "ES256", "EdDSA"])
def signer(request):
    return Signer("k", request.param)


def test_who_a_token_names(signer):
    found = idtokens.check(signer.token(CLAIMS), [signer.jwk], EXPECTED, NOW)
    assert found == Person("https://id.example", "s", "kari@example.org")


def test_an_e_mail_that_the_issuer_has_not_verified_is_none(signer):
    found = idtokens.check(signer.token({**CLAIMS, "email_verified": False}), [signer.jwk], EXPECTED, NOW)
    assert found == Person("https://id.example", "s", "")


def test_clocks_may_differ_by_a_minute_and_no_more(signer):
    token = signer.token(CLAIMS)
    for now in (NOW - 60, NOW + 359):
        assert idtokens.check(token, [signer.jwk], EXPECTED, now).subject == "s"
    for now in (NOW - 61, NOW + 360):
        with pytest.raises(Denied):
            idtokens.check(token, [signer.jwk], EXPECTED, now)


def test_every_bit_of_a_signature_counts(signer):
    for bit in range(0, 512, 37):

        def wrong(data, bit=bit):
            found = bytearray(signer.sign(data))
            found[bit // 8] ^= 1 << bit % 8
            return bytes(found)

        with pytest.raises(Denied, match="signature is wrong"):
            idtokens.check(compact({"alg": signer.alg, "kid": "k"}, CLAIMS, wrong), [signer.jwk], EXPECTED, NOW)


def test_whether_a_key_is_known(signer):
    assert idtokens.knows(signer.token(CLAIMS), [7, signer.jwk])
    assert not idtokens.knows(signer.token(CLAIMS, kid="other"), [signer.jwk])
