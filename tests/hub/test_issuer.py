from pathlib import Path

import pytest
from tests.attacks.oidc_provider import CLIENT, SECRET, Provider, Signer

from farshore.core.errors import Denied, Invalid, Unavailable
from farshore.hub.issuer import Issuer, derived

BACK = "https://hub.example/login/oidc/back"


@pytest.fixture
def provider(clock):
    found = Provider(clock)
    yield found
    found.close()


@pytest.fixture
def issuer(provider, clock, tmp_path):
    (tmp_path / "secret").write_text(SECRET)
    return Issuer(provider.url, CLIENT, tmp_path / "secret", BACK, clock)


def finish(issuer, provider):
    begun = issuer.begin()
    came = provider.authorize(begun.address)
    return issuer.finish(begun.cookie, came["state"], came["code"], came["iss"])


def test_document_and_keys_are_kept_for_an_hour(issuer, provider, clock):
    for _ in range(2):
        assert finish(issuer, provider).subject == "kari-7"
    assert [path for path in provider.asked if path != "/token"] == ["/.well-known/openid-configuration", "/keys"]
    clock.now += 3600
    finish(issuer, provider)
    assert provider.asked.count("/keys") == 2


def test_unknown_keys_make_it_ask_again_but_once_a_minute(issuer, provider, clock):
    finish(issuer, provider)
    provider.signer = Signer("two")
    provider.keys = [provider.signer.jwk]
    with pytest.raises(Denied, match="not in the issuer's set"):
        finish(issuer, provider)
    clock.now += 60
    finish(issuer, provider)
    assert provider.asked.count("/keys") == 2


def test_an_issuer_that_is_away_is_unavailable(issuer, provider):
    provider.answers["/.well-known/openid-configuration"] = (500, {}, {})
    with pytest.raises(Unavailable, match="no OpenID Connect issuer"):
        issuer.begin()
    with pytest.raises(Unavailable, match="does not answer"):
        Issuer("http://127.0.0.1:1", CLIENT, None, BACK, lambda: 0.0).begin()


def test_nothing_that_travels_tells_the_cookie_or_another_use(issuer):
    begun = issuer.begin()
    said = [derived(begun.cookie, what) for what in ("state", "nonce", "verifier")]
    assert len(set(said)) == 3
    assert said[0] in begun.address and said[1] in begun.address
    assert said[2] not in begun.address and begun.cookie.partition(".")[2] not in begun.address


@pytest.mark.parametrize(
    "url", ["http://id.example", "ftp://id.example", "id.example", "https://me@id.example", "https://"]
)
def test_an_issuer_is_reached_over_tls(url, clock):
    with pytest.raises(Invalid, match="https"):
        Issuer(url, CLIENT, None, BACK, clock)


def test_a_secret_that_cannot_be_read(clock, tmp_path):
    with pytest.raises(Invalid, match="secret"):
        Issuer("https://id.example", CLIENT, Path(tmp_path / "none"), BACK, clock)
