import pytest

from farshore.hub import auth
from farshore.hub.app import create_app


def headers(secret):
    return {"Authorization": f"Bearer {secret}"}


def test_tokens_are_told_once_expire_and_are_revoked(operator, clock):
    made = operator.ask("POST", "/v1/tokens", json={"name": "ci", "seconds": 60}).json()
    for_ever = operator.ask("POST", "/v1/tokens", json={"name": "wall"}).json()
    listed = operator.get("/v1/tokens")
    assert [one["name"] for one in listed] == ["admin", "ci", "wall"]
    assert all("token" not in one for one in listed)
    ask = lambda secret: operator.client.get("/v1/models", headers=headers(secret)).status_code  # noqa: E731
    assert (ask(made["token"]), ask(for_ever["token"])) == (200, 200)
    clock.now += 60
    assert (ask(made["token"]), ask(for_ever["token"])) == (401, 200)
    operator.ask("DELETE", f"/v1/tokens/{for_ever['id']}")
    assert ask(for_ever["token"]) == 401
    operator.ask("DELETE", f"/v1/tokens/{for_ever['id']}", status=404)


@pytest.mark.parametrize(
    "body", [{}, {"name": ""}, {"name": "x", "seconds": 0}, {"name": "x", "seconds": 10**12}, {"nmae": "x"}]
)
def test_bad_wishes(operator, body):
    operator.ask("POST", "/v1/tokens", json=body, status=400)


@pytest.fixture
def restarted(settings, clock):
    def start():
        app = create_app(settings, clock)
        tokens = app.hub.operators.every()
        app.hub.close()
        return tokens

    return start


def test_the_first_start_makes_a_token_and_later_ones_do_not(settings, restarted):
    path = settings.data / "admin.token"
    assert [one.name for one in restarted()] == ["admin"]
    secret = path.read_text()
    restarted()
    assert path.read_text() == secret
    path.unlink()
    assert [one.name for one in restarted()] == ["admin"]
    assert not path.exists()  # taken away by its owner: not made again


def test_a_crash_between_file_and_row_is_mended(settings, restarted):
    settings.data.mkdir()
    (settings.data / "admin.token").write_text(auth.make_secret() + "\n")
    assert [one.name for one in restarted()] == ["admin"]


def test_a_revoked_admin_stays_revoked(settings, clock, restarted):
    app = create_app(settings, clock)
    app.hub.operators.revoke(app.hub.operators.every()[0].id)
    app.hub.close()
    assert restarted() == []
