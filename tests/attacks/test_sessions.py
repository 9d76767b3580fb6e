"""Against people's sessions: other sites' pages, planted cookies, guessed passwords, forged headers, stolen links."""

import ast
import pathlib
import re

import pytest

from farshore.hub import operators as rooms
from farshore.hub.operators import csrf_of
from farshore.hub.roles import ALL, Grant

PASSWORD = "correct horse battery staple"
CHANGE = {"json": {"title": "x"}}


@pytest.fixture
def hub(operator):
    return operator.client.app.hub


@pytest.fixture
def client(operator, hub, pushed):
    pushed()
    for name, grants in (("boss", ALL), ("kari", [Grant("viewer", "*")])):
        hub.operators.settle_password(hub.operators.invite(name, grants), PASSWORD)
    operator.client.cookies.clear()
    return operator.client


def login(client, name="boss", password=PASSWORD, **more):
    return client.post("/v1/login", json={"name": name, "password": password}, **more)


@pytest.fixture
def csrf(client):
    return {"X-CSRF-Token": login(client).json()["csrf"]}


def change(client, **more):
    return client.patch("/v1/models/detector", **CHANGE, **more).status_code


def test_the_cookie_is_kept_from_scripts_and_from_other_sites(client):
    said = login(client).headers["set-cookie"].lower()
    assert "httponly" in said and "samesite=strict" in said and "path=/" in said and "domain" not in said
    assert PASSWORD not in said


def test_over_tls_the_cookie_is_bound_to_the_host(operator_of):
    secured = operator_of(public_url="https://127.0.0.1")  # of this machine, behind a proxy of its own
    operators = secured.client.app.hub.operators
    operators.settle_password(operators.invite("boss", ALL), PASSWORD)
    said = login(secured.client).headers["set-cookie"]
    assert said.startswith("__Host-farshore=") and "Secure" in said


def test_csrf_a_cookie_alone_changes_nothing(client, csrf):
    assert client.get("/v1/models").status_code == 200
    other = csrf_of("another session's secret, of the same hub")
    for headers in ({}, {"X-CSRF-Token": ""}, {"X-CSRF-Token": other}, {"X-CSRF-Token": "é".encode()}):
        assert change(client, headers=headers) == 403
    assert change(client, headers=csrf) == 200


def test_csrf_not_from_another_sites_page_even_with_the_token(client, csrf):
    for site in ("cross-site", "same-site", "anything"):
        elsewhere = {"Sec-Fetch-Site": site}
        assert change(client, headers={**csrf, **elsewhere}) == 403
        assert login(client, headers=elsewhere).status_code == 403
        answer = client.post("/v1/setup", json={"secret": "s" * 43, "password": PASSWORD}, headers=elsewhere)
        assert "another site" in answer.json()["error"]["message"]


def test_csrf_every_route_that_changes_something_asks_for_it(client, csrf):
    from farshore.hub.app import ENDPOINTS

    for one in ENDPOINTS:
        if one.who == "operator" and one.method != "GET":
            address = re.sub(r"{(\w+)}", "absent", one.path)
            answer = client.request(one.method, address, json={})
            assert (answer.status_code, "CSRF" in answer.text) == (403, True), one.path


def test_fixation_a_planted_cookie_is_never_taken_up(client, hub):
    client.cookies.set("farshore", "planted-planted-planted-planted-planted-pla")
    assert client.get("/v1/models").status_code == 401
    secret = re.search(r"farshore=([\w-]+)", login(client).headers["set-cookie"])[1]
    assert "planted" not in secret
    # Nor is a session of one's own, planted on another: whose it was ends at that login.
    client.cookies.clear()
    first = re.search(r"farshore=([\w-]+)", login(client, "kari").headers["set-cookie"])[1]
    client.cookies.clear()
    client.cookies.set("farshore", first)
    login(client, "boss")
    client.cookies.clear()
    client.cookies.set("farshore", first)
    assert client.get("/v1/models").status_code == 401


def test_after_logout_a_copied_cookie_is_worth_nothing(client, csrf):
    copied = client.cookies["farshore"]
    assert client.post("/v1/logout", headers=csrf).status_code == 204
    client.cookies.clear()
    client.cookies.set("farshore", copied)
    assert client.get("/v1/models").status_code == 401


def test_a_session_is_no_bearer_and_a_token_no_cookie(client, csrf, operator):
    session = client.cookies["farshore"]
    client.cookies.clear()
    assert client.get("/v1/models", headers={"Authorization": f"Bearer {session}"}).status_code == 401
    client.cookies.set("farshore", operator.headers["Authorization"].split()[1])
    assert client.get("/v1/models").status_code == 401


def test_a_wrong_header_is_not_made_good_by_a_cookie(client, csrf):
    assert client.get("/v1/models", headers={"Authorization": "Bearer " + "x" * 43}).status_code == 401


SPOOFED = [
    {"X-Forwarded-User": "boss"}, {"X-Remote-User": "boss"}, {"Remote-User": "boss"}, {"X-Forwarded-For": "127.0.0.1"},
    {"Forwarded": "for=127.0.0.1;proto=https"}, {"X-Real-IP": "127.0.0.1"}, {"X-SSL-Client-Verify": "SUCCESS"},
    {"X-SSL-Client-CN": "boss"}, {"X-Client-Cert": "boss"}, {"X-Original-URL": "/healthz"}, {"X-Rewrite-URL": "/healthz"},
    {"X-HTTP-Method-Override": "GET"}, {"X-Farshore-Operator": "boss"}, {"X-Farshore-Device": "d"}, {"Host": "localhost"},
    {"Authorization": "Basic Ym9zczpib3Nz"}, {"Authorization": "Bearer"}, {"Authorization": "bearer boss"},
    {"Authorization": "Bearer null"}, {"Cookie": "farshore="}, {"Cookie": "__Host-farshore=x; farshore=%00"},
]  # fmt: skip


def test_headers_that_proxies_set_open_no_door(client):
    client.cookies.clear()
    for headers in SPOOFED:
        for path in ("/v1/models", "/v1/operators"):
            assert client.get(path, headers=headers).status_code == 401, headers
        assert client.post("/device/v1/sync", json={}, headers=headers).status_code == 401, headers


def test_oversized_tokens_are_refused_before_anything_is_looked_up(client):
    client.cookies.clear()
    for size in (129, 1000, 8000, 20_000):
        for headers in ({"Authorization": "Bearer " + "x" * size}, {"Cookie": "farshore=" + "x" * size}):
            assert client.get("/v1/models", headers=headers).status_code in {401, 413}
        for path, body in (
            ("/v1/login", {"name": "boss", "password": "x" * size}),
            ("/v1/setup", {"secret": "x" * size, "password": PASSWORD}),
            ("/device/v1/enrol", {"device": "d", "key": "x" * size, "bearer": "0" * 64, "token": "x" * size}),
            ("/device/v1/renew", {"device": "d", "turn": 0, "challenge": "x" * size, "bearer": "0" * 64}),
        ):
            assert client.post(path, json=body).status_code in {400, 401, 413}


def test_guessing_is_slowed_down_and_tells_nothing(client):
    said = [login(client, name, "wrong password").json()["error"] for name in ("boss", "nobody")]
    assert said[0] == said[1]
    for _ in range(4):
        login(client, "boss", "wrong password")
    assert login(client).status_code == 503  # also the right one, for a while
    assert login(client, "kari").status_code == 200


def test_a_setup_link_is_good_once(client, hub):
    secret = hub.operators.invite("ola", [Grant("viewer", "*")])
    use = lambda: client.post("/v1/setup", json={"secret": secret, "password": PASSWORD}).status_code  # noqa: E731
    assert client.post("/v1/setup", json={"secret": secret, "password": "short"}).status_code == 400
    assert (use(), use()) == (200, 403)


def test_no_secret_is_kept_as_it_is(client, csrf, hub, operator, settings):
    made = operator.ask("POST", "/v1/tokens", json={"name": "ci"}).json()["token"]
    link = hub.operators.invite("ola", [Grant("viewer", "*")])
    for path in settings.data.rglob("hub.sqlite3*"):
        data = path.read_bytes()
        for secret in (PASSWORD, client.cookies["farshore"], csrf["X-CSRF-Token"], made, link):
            assert secret.encode() not in data


def test_pages_outside_run_their_own_scripts_alone(client):
    for path in ("/setup", "/login"):
        answer = client.get(path, headers={"Cookie": ""})
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "script-src 'self';" in policy and "unsafe-inline" not in policy
        assert re.search(r"<script [^>]*src=", answer.text) and not re.search(r"<script(?![^>]*\bsrc=)", answer.text)


def test_a_session_of_a_token_may_no_more_than_the_token_and_ends_with_it(client, hub, csrf):
    made = client.post("/v1/tokens", json={"name": "t", "grants": [{"role": "viewer", "fleet": "*"}]}, headers=csrf)
    token, key = made.json()["token"], made.json()["id"]
    client.cookies.clear()
    assert client.post("/login", data={"token": token + "x"}).status_code == 401
    assert client.post("/login", data={"token": token}, follow_redirects=False).status_code == 303
    me = client.get("/v1/me").json()
    assert me["name"] == "boss" and me["grants"] == [{"role": "viewer", "fleet": "*"}]
    assert change(client, headers={"X-CSRF-Token": me["csrf"]}) == 403
    hub.operators.revoke(hub.operators.by_token(token), key)
    assert client.get("/v1/me").status_code == 401


def test_the_form_logs_nobody_in_from_another_site_and_out_only_with_the_token(client):
    said = {"name": "boss", "password": PASSWORD, "next": "https://evil.example"}
    assert client.post("/login", data=said, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert client.post("/login", data={**said, "password": "wrong"}, follow_redirects=False).status_code == 401
    answer = client.post("/login", data=said, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/studio")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie
    assert client.post("/logout", data={"csrf": "x"}, follow_redirects=False).status_code == 403
    csrf = client.get("/v1/me").json()["csrf"]
    assert client.post("/logout", data={"csrf": csrf}, follow_redirects=False).headers["location"] == "/login"
    assert client.get("/v1/me").status_code == 401


def test_forms_that_no_page_makes_are_refused(client):
    for body in (b"\xff=1", b"name=a&name=b", b"&".join(b"a%d=1" % n for n in range(20))):
        answer = client.post("/login", content=body, headers={"Content-Type": "application/x-www-form-urlencoded"})
        assert answer.status_code == 400, body
    assert client.post("/login", content=b"x" * 10_000).status_code == 413


def test_secrets_are_compared_in_constant_time_or_by_their_hash():
    """No ``==`` over what came in and what is secret: macs and CSRF tokens go through ``compare_digest``, all else by look-up."""
    folder = pathlib.Path(rooms.__file__).parent
    for name in ("challenges.py", "tickets.py", "api/access.py"):
        tree = ast.parse((folder / name).read_text())
        names = {
            node.func.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        }
        assert "compare_digest" in names, name
        for node in ast.walk(tree):
            if isinstance(node, ast.Compare) and any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops):
                said = ast.unparse(node)
                assert not re.search(r"mac|secret|csrf|cookie", said), f"{name}: {said}"
