"""Settings: operators, tokens, keys, links, the audit log."""

import re

import pytest
from tests.hub.studio.conftest import Visitor

from farshore.hub.roles import Grant

HOSTILE = """"><script>alert(1)</script>"""


@pytest.fixture
def viewer(operator, hub):
    """Somebody who may only look."""
    hub.operators.settle_password(hub.operators.invite("kari", [Grant("viewer", "*")]), "correct horse battery")
    operator.client.cookies.clear()
    said = {"name": "kari", "password": "correct horse battery"}
    assert operator.client.post("/login", data=said, follow_redirects=False).status_code == 303
    return Visitor(operator.client)


def test_operators_with_their_roles(visitor, hub):
    hub.operators.invite("ola", [Grant("operator", "north"), Grant("viewer", "*")])
    text = visitor.text("/studio/settings/operators")
    assert "ola" in text and "north" in text and "every fleet" in text and "invited" in text
    assert 'data-api="DELETE /v1/operators/ola"' in text


def test_tokens_and_who_i_am(visitor, operator):
    operator.ask("POST", "/v1/tokens", json={"name": HOSTILE})
    text = visitor.text("/studio/settings")
    assert "development" in text and "&lt;script&gt;" in text and HOSTILE not in text


def test_keys_with_their_dates(visitor, pushed):
    pushed()
    text = visitor.text("/studio/settings/keys")
    for role in ("root", "targets", "snapshot", "timestamp", "model/detector"):
        assert role in text, role
    assert "farshore keys init" in text and "expired" not in text


def test_what_expires_soon_and_what_has(clock, visitor, pushed, monkeypatch):
    pushed()
    monkeypatch.setattr("farshore.hub.studio.settings.ONLINE", ())
    from farshore.hub.studio import settings

    told = visitor.client.get("/v1/trust").json()
    assert all(one["renewed"] for one in settings.signed(told))
    assert not any(one["renewed"] for one in settings.signed({**told, "development": False}))


def test_links_with_their_prices(visitor, operator):
    operator.ask("PUT", "/v1/links/iridium", json={"price": 6, "currency": "EUR", "rate": 2000})
    text = visitor.text("/studio/settings/links")
    assert "6.00 EUR" in text and "2.0 kB/s" in text and 'data-api="DELETE /v1/links/iridium"' in text


def test_the_audit_log_is_searched_and_paged(visitor, operator, monkeypatch):
    monkeypatch.setattr("farshore.hub.studio.settings.AUDIT", 3)
    for name in ("alpha", "beta", "gamma"):
        operator.ask("PUT", f"/v1/links/{name}", json={"price": 1})
        operator.ask("PUT", f"/v1/operators/{name}", json={"grants": [{"role": "viewer", "fleet": "*"}]})
    text = visitor.text("/studio/settings/audit")
    assert text.index("gamma") < text.index("/v1/links/gamma")
    [more] = re.findall(r'href="\?([^"]*before=[^"]*)"', text)
    assert "beta" in visitor.text(f"/studio/settings/audit?{more}")
    found = visitor.text("/studio/settings/audit?search=ALPHA")
    assert "alpha" in found and "gamma" not in found
    assert HOSTILE not in visitor.text("/studio/settings/audit?search=%22%3E%3Cscript%3Ealert(1)%3C/script%3E")


def test_after_goes_alone(operator):
    operator.ask("GET", "/v1/audit?after=0&search=x", status=400)
    operator.ask("GET", "/v1/audit?search=" + "x" * 201, status=400)


def test_who_may_only_look_is_offered_no_change(viewer, pushed, operator):
    operator.ask("PUT", "/v1/links/iridium", json={"price": 6, "currency": "EUR"})
    pushed()
    for path in ("/settings/operators", "/settings/audit", "/upload"):
        assert "needs the role" in viewer.text(f"/studio{path}"), path
    for path in ("/settings/links", "/models/detector", "/models/detector/versions/1", "/settings/keys"):
        assert "data-api" not in viewer.text(f"/studio{path}"), path
