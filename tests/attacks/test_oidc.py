"""Against log-in through OpenID Connect: forged and borrowed tokens, other browsers, issuers that lead elsewhere."""

import functools
import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.attacks.oidc_provider import CLIENT, SECRET, Provider, Signer, b64, compact

from farshore.hub.roles import Grant

VIEWER = [Grant("viewer", "*")]


@pytest.fixture
def provider(clock):
    found = Provider(clock)
    yield found
    found.close()


@pytest.fixture
def client(operator_of, provider, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text(SECRET + "\n")
    operator = operator_of(oidc_issuer=provider.url, oidc_client_id=CLIENT, oidc_client_secret_file=str(secret))
    operator.client.app.hub.operators.invite("kari", VIEWER, "kari@example.org")
    operator.client.admin = operator
    return operator.client


def begin(client) -> str:
    answer = client.get("/login/oidc", follow_redirects=False)
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


def back(client, query):
    return client.get("/login/oidc/back", params=query)


def log_in(client, provider, **who):
    return back(client, provider.authorize(begin(client), **who))


def who(client):
    answer = client.get("/v1/me")
    return answer.json()["name"] if answer.status_code == 200 else None


def refused(client, answer, word: str, status: int = 403) -> None:
    assert answer.status_code == status and word in answer.json()["error"]["message"], answer.text
    assert who(client) is None


# -- what must go well -------------------------------------------------------------------------------------------------


def test_an_operator_logs_in_with_roles_of_farshore_and_a_line_in_the_audit_log(client, provider):
    answer = log_in(client, provider)
    assert answer.status_code == 200, answer.text
    said = " ".join(answer.headers.get_list("set-cookie")).lower()
    assert "httponly" in said and "samesite=strict" in said
    me = client.get("/v1/me").json()
    assert me["name"] == "kari" and me["grants"] == [{"role": "viewer", "fleet": "*"}] and me["csrf"]
    assert client.get("/v1/audit").status_code == 403
    lines = [(line["action"], line["who"], line["via"]) for line in client.admin.get("/v1/audit")]
    assert ("session.begun", "kari", me["via"]) in lines and ("operator.linked", "kari", "oidc") in lines


def test_once_linked_the_subject_counts_and_the_e_mail_no_more(client, provider):
    assert log_in(client, provider).status_code == 200
    client.cookies.clear()
    assert log_in(client, provider, email="married@example.org").status_code == 200
    assert who(client) == "kari"
    client.cookies.clear()
    refused(client, log_in(client, provider, subject="who-got-the-address-later"), "no operator")


@pytest.mark.parametrize("alg", ["RS256", "ES256", "EdDSA"])
def test_each_algorithm_that_is_taken(client, provider, alg):
    provider.signer = Signer("new", alg)
    provider.keys = [provider.signer.jwk]
    assert log_in(client, provider).status_code == 200


def test_an_operator_may_be_named_by_subject_and_needs_no_verified_e_mail(client, provider):
    made = client.admin.ask(
        "PUT", "/v1/operators/ola", json={"grants": [{"role": "viewer", "fleet": "*"}], "oidc": "ola-1"}
    ).json()
    assert "setup" not in made and not made["active"] and made["oidc"] == "ola-1"
    provider.claims = {"email": None, "email_verified": None}
    assert log_in(client, provider, subject="ola-1").status_code == 200
    assert who(client) == "ola"


def test_an_issuer_may_change_its_keys(client, provider, clock):
    assert log_in(client, provider).status_code == 200
    client.cookies.clear()
    provider.signer = Signer("two")
    provider.keys = [provider.signer.jwk]
    clock.now += 61
    assert log_in(client, provider).status_code == 200


def test_several_audiences_with_us_as_the_party(client, provider):
    provider.claims = {"aud": ["other", CLIENT], "azp": CLIENT}
    assert log_in(client, provider).status_code == 200


# -- tokens ------------------------------------------------------------------------------------------------------------

NOW = 1_790_000_000


USELESS = [
    ({"nonce": "another"}, "another log-in"),
    ({"nonce": None}, "another log-in"),
    ({"aud": "other"}, "somebody else"),
    ({"aud": None}, "somebody else"),
    ({"aud": [CLIENT, "other"]}, "somebody else"),
    ({"azp": "other"}, "somebody else"),
    ({"iss": "https://else.example"}, "another issuer"),
    ({"exp": NOW - 61}, "too old"),
    ({"exp": None}, "from when"),
    ({"exp": "9999999999"}, "from when"),
    ({"iat": NOW - 3600}, "too old"),
    ({"iat": NOW + 3600, "exp": NOW + 7200}, "future"),
    ({"iat": None}, "from when"),
    ({"nbf": NOW + 3600}, "future"),
    ({"sub": ""}, "nobody"),
    ({"sub": "x" * 256}, "nobody"),
    ({"sub": 7}, "nobody"),
    ({"email_verified": False}, "no operator"),
    ({"email_verified": "true"}, "no operator"),
    ({"email_verified": None}, "no operator"),
    ({"email": None}, "no operator"),
    ({"padding": "x" * 8192}, "longer"),
]


def test_claims_that_prove_nothing(client, provider):
    for claims, word in USELESS:
        provider.claims = claims
        refused(client, log_in(client, provider), word)


def test_no_signature(client, provider):
    for alg in ("none", "None", "", None):
        for kid in ({}, {"kid": "one"}):
            provider.make = lambda claims, alg=alg, kid=kid: compact({"alg": alg, **kid}, claims, lambda _: b"")
            answer = log_in(client, provider)
            refused(client, answer, "ID token")


def test_the_public_key_as_a_shared_secret(client, provider):
    key = provider.signer.key.public_key()
    for form in ((Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)):
        secret = key.public_bytes(*form)
        for extra in ({}, {"typ": "JWT"}):
            provider.make = lambda claims, secret=secret, extra=extra: compact(
                {"alg": "HS256", "kid": "one", **extra},
                claims,
                lambda data: hmac.digest(secret, data, hashlib.sha256),
            )
            refused(client, log_in(client, provider), "ID token")
    provider.keys = [{name: value for name, value in provider.signer.jwk.items() if name != "alg"}]
    client.app.hub.issuer._keys = None
    refused(client, log_in(client, provider), "RS256, ES256, EdDSA")


@pytest.mark.parametrize("alg", ["RS256", "ES256", "EdDSA"])
def test_another_key_under_a_known_name(client, provider, alg):
    thief = Signer("one", alg)
    provider.make = thief.token
    refused(client, log_in(client, provider), "ID token")


def test_an_algorithm_that_is_not_the_keys(client, provider):
    provider.signer = Signer("one", "ES256")
    provider.keys = [{name: value for name, value in provider.signer.jwk.items() if name != "alg"}]
    for alg in ("RS256", "EdDSA", "ES384", "PS256"):
        provider.make = lambda claims, alg=alg: provider.signer.token(claims, alg=alg)
        refused(client, log_in(client, provider), "RS256, ES256, EdDSA")


def test_keys_that_the_token_brings_or_names(client, provider):
    thief = Signer("mine")
    provider.make = thief.token
    refused(client, log_in(client, provider), "not in the issuer's set")
    for header in (
        {"jwk": thief.jwk}, {"jku": "http://127.0.0.1:1/keys"}, {"x5u": "http://127.0.0.1:1/c"}, {"x5c": ["MA=="]},
        {"crit": ["exp"]}, {"crit": []}, {"b64": False},
    ):  # fmt: skip
        provider.make = lambda claims, header=header: provider.signer.token(claims, **header)
        refused(client, log_in(client, provider), f"has {next(iter(header))}")


def test_keys_that_are_for_something_else_or_stand_twice_or_are_weak(client, provider):
    good = provider.signer.jwk
    weak = {**good, "n": b64(b"\xff" * 128)}
    for keys, word in (
        ([{**good, "use": "enc"}], "something else"),
        ([{**good, "alg": "RS512"}], "something else"),
        ([good, good], "not in the issuer's set"),
        ([weak], "bits"),
        ([{**good, "kty": "oct", "k": "AAAA"}], "kind"),
        ([{**good, "n": "!"}], "damaged"),
        ([7, None], "not in the issuer's set"),
    ):
        provider.keys, client.app.hub.issuer._keys = keys, None
        refused(client, log_in(client, provider), word)


def test_what_is_no_token(client, provider):
    for token in ["", "a.b", "a.b.c.d", "....", "e30.e30.", "W10.W10.AA", "é.é.é", "!!.e30.AA", "e30.e31.AA"]:
        provider.make = lambda _, token=token: token
        refused(client, log_in(client, provider), "ID token")


def test_every_changed_character_of_a_token_is_found(client, provider):
    def make(claims, turn):
        token = provider.signer.token(claims)
        place = len(token) * turn // 12
        return token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]

    for turn in range(12):
        provider.make = functools.partial(make, turn=turn)
        answer = log_in(client, provider)
        assert answer.status_code == 403 and who(client) is None


# -- browsers ----------------------------------------------------------------------------------------------------------


def test_another_browser_cannot_end_what_this_one_began(client, provider):
    query = provider.authorize(begin(client))
    client.cookies.clear()
    refused(client, back(client, query), "another browser")
    begin(client)  # with a log-in of its own
    refused(client, back(client, query), "another browser")
    assert "/token" not in provider.asked


def test_a_wrong_or_missing_state_and_a_stranger_issuer(client, provider):
    query = provider.authorize(begin(client))
    for state in ("", "x", "é", query["state"][:-1]):
        refused(client, back(client, {**query, "state": state}), "another browser")
    refused(client, back(client, [*query.items(), ("state", query["state"])]), "twice")
    refused(client, back(client, {**query, "iss": "https://else.example"}), "another issuer")
    refused(client, back(client, {"state": query["state"], "error": "access_denied"}), "no code")
    assert "/token" not in provider.asked


def test_a_code_is_good_once_and_for_its_own_browser(client, provider):
    address = begin(client)
    cookie = client.cookies["farshore-oidc"]
    query = provider.authorize(address)
    assert back(client, query).status_code == 200
    client.cookies.clear()
    client.cookies.set("farshore-oidc", cookie)
    refused(client, back(client, query), "code")
    stolen = provider.authorize(begin(client))["code"]  # PKCE: a code of one log-in is worth nothing in another
    client.cookies.clear()
    own = provider.authorize(begin(client))
    refused(client, back(client, {**own, "code": stolen}), "code")


def test_a_log_in_ends_after_ten_minutes_whatever_the_cookie_says(client, provider, clock):
    query = provider.authorize(begin(client))
    until, _, secret = client.cookies["farshore-oidc"].partition(".")
    clock.now += 601
    refused(client, back(client, query), "too long")
    client.cookies.clear()
    client.cookies.set("farshore-oidc", f"{int(until) + 6000}.{secret}")
    refused(client, back(client, query), "another browser")


# -- people ------------------------------------------------------------------------------------------------------------


def test_whom_nobody_expects_stays_outside(client, provider):
    client.app.hub.operators.invite("eva", VIEWER)  # there is an operator, but no admin named an account for her
    for subject, email in (("eva", "eva"), ("kari", "kari"), ("", "x@example.org"), ("x", "KARI@example.org.evil")):
        answer = log_in(client, provider, subject=subject, email=email)
        assert answer.status_code == 403 and who(client) is None


def test_removed_or_unlinked_operators_are_out_at_once(client, provider):
    assert log_in(client, provider).status_code == 200
    client.app.hub.operators.invite("kari", VIEWER, "")
    assert who(client) is None
    client.cookies.clear()
    refused(client, log_in(client, provider), "no operator")


def test_one_account_is_one_operator(client):
    grants = {"grants": [{"role": "admin", "fleet": "*"}], "oidc": "Kari@Example.org"}
    assert "already" in client.admin.ask("PUT", "/v1/operators/eva", json=grants, status=409).text


# -- issuers -----------------------------------------------------------------------------------------------------------


def test_redirects_of_the_issuer_are_not_followed(client, provider):
    provider.answers["/.well-known/openid-configuration"] = (302, b"{}", {"Location": f"{provider.url}/elsewhere"})
    assert client.get("/login/oidc", follow_redirects=False).status_code == 503
    assert "/elsewhere" not in provider.asked


def test_answers_of_the_issuer_are_bounded_and_its_own(client, provider):
    address = "/.well-known/openid-configuration"
    for said in (b"{" + b" " * (64 << 10) + b"}", b"[]", b"nonsense", b"[" * 10_000):
        provider.answers[address] = (200, said, {})
        assert client.get("/login/oidc", follow_redirects=False).status_code == 503
    for change in ({"issuer": "https://else.example"}, {"issuer": provider.url + "/"}, {"authorization_endpoint": 7}):
        provider.answers[address] = (200, {**provider.document, **change}, {})
        assert client.get("/login/oidc", follow_redirects=False).status_code == 503


def test_places_that_the_issuer_names_are_https_or_on_this_machine(client, provider):
    for place in (
        "http://intranet.example/token",
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "//x",
        "http://[",
        "http://a@127.0.0.1/",
    ):
        provider.document["token_endpoint"] = place
        client.app.hub.issuer._document = None
        refused(client, log_in(client, provider), "token_endpoint", 503)


def test_a_wrong_client_secret_lets_nobody_in(client, provider):
    client.app.hub.issuer._secret = "wrong"
    refused(client, log_in(client, provider), "code")


def test_a_hub_without_an_issuer_has_no_such_door(operator):
    assert operator.client.get("/login/oidc").status_code == 404
    assert operator.client.get("/login/oidc/back").status_code == 404
    assert "login/oidc" not in operator.client.get("/setup").text


def test_the_setup_page_names_the_other_way(client):
    assert 'href="/login/oidc"' in client.get("/setup").text and 'href="/login/oidc"' in client.get("/login").text
