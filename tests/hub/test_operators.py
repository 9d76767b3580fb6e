import pytest

from farshore.core.errors import Conflict, Denied, Unauthenticated
from farshore.hub import auth
from farshore.hub.app import create_app
from farshore.hub.roles import ALL, Caller, Grant

PASSWORD = "correct horse battery staple"
NORTH = Grant("operator", "north")


def headers(secret):
    return {"Authorization": f"Bearer {secret}"}


def test_tokens_are_told_once_expire_and_are_revoked(operator, clock):
    made = operator.ask("POST", "/v1/tokens", json={"name": "ci", "seconds": 60}).json()
    season = operator.ask("POST", "/v1/tokens", json={"name": "wall"}).json()
    listed = operator.get("/v1/tokens")
    assert {one["name"] for one in listed} == {"development", "ci", "wall"}
    assert all("token" not in one for one in listed)
    ask = lambda secret: operator.client.get("/v1/models", headers=headers(secret)).status_code  # noqa: E731
    assert (ask(made["token"]), ask(season["token"])) == (200, 200)
    clock.now += 60
    assert (ask(made["token"]), ask(season["token"])) == (401, 200)
    operator.ask("DELETE", f"/v1/tokens/{season['id']}")
    assert ask(season["token"]) == 401
    operator.ask("DELETE", f"/v1/tokens/{season['id']}", status=404)


@pytest.mark.parametrize(
    "body",
    [
        {}, {"name": ""}, {"name": "x", "seconds": 0}, {"name": "x", "seconds": 10**12}, {"nmae": "x"},
        {"name": "x", "grants": [{"role": "king", "fleet": "*"}]}, {"name": "x", "grants": [{"role": "viewer", "fleet": "A B"}]},
    ],
)  # fmt: skip
def test_bad_wishes(operator, body):
    operator.ask("POST", "/v1/tokens", json=body, status=400)


@pytest.fixture
def operators(hub):
    return hub.operators


@pytest.fixture
def kari(operators):
    operators.settle_password(operators.invite("kari", [NORTH]), PASSWORD)
    return Caller("kari", (NORTH,))


def test_from_a_setup_link_to_a_session(operators):
    link = operators.invite("kari", [NORTH])
    with pytest.raises(Unauthenticated):
        operators.login("kari", PASSWORD)
    assert operators.settle_password(link, PASSWORD) == "kari"
    for secret in (link, "x" * 43):
        with pytest.raises(Denied, match="setup link"):
            operators.settle_password(secret, PASSWORD)
    caller, session = operators.login("kari", PASSWORD)
    assert operators.by_session(session) == caller == Caller("kari", (NORTH,), caller.via)
    operators.logout(session)
    with pytest.raises(Unauthenticated):
        operators.by_session(session)


def test_links_and_sessions_end(operators, kari, clock):
    _, session = operators.login("kari", PASSWORD)
    link = operators.invite("ola", [NORTH])
    clock.now += 12 * 3600
    with pytest.raises(Unauthenticated):
        operators.by_session(session)
    clock.now += 12 * 3600
    with pytest.raises(Denied):
        operators.settle_password(link, PASSWORD)


def test_a_new_password_ends_every_session(operators, kari):
    _, session = operators.login("kari", PASSWORD)
    operators.settle_password(operators.invite("kari", [NORTH]), PASSWORD + "!")
    with pytest.raises(Unauthenticated):
        operators.by_session(session)
    with pytest.raises(Unauthenticated):
        operators.login("kari", PASSWORD)


def test_roles_taken_away_are_gone_from_tokens_and_sessions_at_once(operators, kari):
    _, session = operators.login("kari", PASSWORD)
    _, token = operators.create_token(kari, "ci", None, None)
    assert operators.by_token(token).grants == (NORTH,)
    operators.invite("kari", [Grant("viewer", "south")])
    assert operators.by_token(token).grants == ()
    assert operators.by_session(session).grants == (Grant("viewer", "south"),)
    operators.invite("kari", ALL)
    assert operators.by_token(token).grants == (NORTH,)  # never more than it was made for
    operators.remove("kari") if len(operators.every()) > 1 else None


def test_with_an_operator_all_that_is_theirs_ends(operators, kari):
    operators.settle_password(operators.invite("boss", ALL), PASSWORD)
    _, session = operators.login("kari", PASSWORD)
    _, token = operators.create_token(kari, "ci", None, None)
    operators.remove("kari")
    with pytest.raises(Unauthenticated):
        operators.by_session(session)
    with pytest.raises(Unauthenticated):
        operators.by_token(token)
    with pytest.raises(Conflict, match="last admin"):
        operators.remove("boss")


def test_a_token_cannot_be_made_for_more_than_its_maker(operators, kari):
    for grant in (Grant("operator", "south"), Grant("operator", "*"), Grant("publisher", "north")):
        with pytest.raises(Denied):
            operators.create_token(kari, "ci", [grant], None)
    row, _ = operators.create_token(kari, "ci", [Grant("viewer", "north")], None)
    assert row.grants == (Grant("viewer", "north"),)


@pytest.fixture
def restarted(settings, clock):
    from dataclasses import replace

    def start(**changes):
        app = create_app(replace(settings, **changes), clock)
        tokens = app.hub.operators.tokens(Caller("development", ALL))
        app.hub.close()
        return tokens

    return start


def test_the_first_start_makes_a_development_token_and_later_ones_do_not(settings, restarted):
    path = settings.data / "admin.token"
    assert [one.name for one in restarted()] == ["development"]
    secret = path.read_text()
    restarted()
    assert path.read_text() == secret
    path.unlink()
    assert [one.name for one in restarted()] == ["development"]
    assert not path.exists()  # taken away by its owner: not made again


def test_a_crash_between_file_and_row_is_mended(settings, restarted):
    settings.data.mkdir()
    (settings.data / "admin.token").write_text(auth.make_secret() + "\n")
    assert [one.name for one in restarted()] == ["development"]


def test_a_revoked_development_token_stays_revoked(settings, clock, restarted):
    app = create_app(settings, clock)
    boss = Caller("development", ALL)
    app.hub.operators.revoke(boss, app.hub.operators.tokens(boss)[0].id)
    app.hub.close()
    assert restarted() == []


def test_a_hub_that_others_reach_has_no_development_token(settings, restarted):
    path = settings.data / "admin.token"
    assert restarted(host="0.0.0.0") == [] and not path.exists()
    assert len(restarted()) == 1 and path.exists()
    assert restarted(public_url="https://hub.example") == [] and not path.exists()


def test_the_first_admins_link_is_told_until_it_was_used(settings, clock):
    from dataclasses import replace

    app = create_app(replace(settings, host="0.0.0.0"), clock)
    operators = app.hub.operators
    first, second = operators.first_link(), operators.first_link()
    with pytest.raises(Denied):
        operators.settle_password(first, PASSWORD)  # only the newest holds
    assert operators.settle_password(second, PASSWORD) == "admin"
    assert operators.first_link() is None
    assert operators.settle_password(operators.first_link(anew=True), PASSWORD) == "admin"
    assert operators.login("admin", PASSWORD)[0].grants == ALL
    link = app.hub.setup_link("s" * 43)
    assert link.startswith("https://") and "/setup#farshore1." in link and ".ca=" in link
    app.hub.close()
