"""Log-in of operators through an OpenID Connect issuer: out to it, and back with a session."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from farshore.core.errors import Denied, NotFound
from farshore.hub.api import access
from farshore.hub.api.door import Endpoint
from farshore.hub.api.operators import set_cookie
from farshore.hub.hub import Hub
from farshore.hub.issuer import LOGIN_SECONDS, Issuer
from farshore.hub.operators import SESSION_SECONDS

_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_PLAIN = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"}
# A page and no redirect: browsers keep the session's cookie (SameSite=Strict) from what another site's redirect leads to.
_PAGE = """<!doctype html><html lang=en><meta charset=utf-8><title>Farshore: logged in</title>
<p>Logged in. <a href=../../studio>Go on</a></p></html>"""


async def begin(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    begun = await hub.long_work(_issuer(hub).begin)
    answer = RedirectResponse(begun.address, 303, _PLAIN)
    _bind(hub, answer, begun.cookie, LOGIN_SECONDS)
    return answer


async def back(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    issuer, asked = _issuer(hub), request.query_params
    if len(asked.multi_items()) != len(asked):
        raise Denied("the issuer's answer says something twice")
    cookie = request.cookies.get(_name(hub), "")
    person = await hub.long_work(
        issuer.finish, cookie, asked.get("state", ""), asked.get("code", ""), asked.get("iss")
    )  # fmt: skip
    before = request.cookies.get(access.cookie_name(hub), "")
    _, secret = await hub.threads(hub.operators.login_as, person, before)
    answer = HTMLResponse(_PAGE, headers={**_PLAIN, "Content-Security-Policy": _POLICY})
    set_cookie(hub, answer, secret, SESSION_SECONDS)
    _bind(hub, answer, "", 0)
    return answer


def _issuer(hub: Hub) -> Issuer:
    if hub.issuer is None:
        raise NotFound("this hub has no OpenID Connect issuer: start it with --oidc-issuer")
    return hub.issuer


def _name(hub: Hub) -> str:
    return access.cookie_name(hub) + "-oidc"


def _bind(hub: Hub, answer: Response, secret: str, seconds: int) -> None:
    """Give, or with 0 seconds take, the cookie that binds a log-in to its browser; the way back from the issuer must bring it."""
    secure = hub.settings.url.startswith("https:")
    answer.set_cookie(_name(hub), secret, max_age=seconds, path="/", secure=secure, httponly=True, samesite="lax")


ENDPOINTS = (
    Endpoint(
        "GET", "/login/oidc", begin, "Log in through the OpenID Connect issuer", "anyone", gives=bytes, status=303
    ),
    Endpoint(
        "GET",
        "/login/oidc/back",
        back,
        "Where the issuer sends the browser back to: begins a session (cookie)",
        "anyone",
        gives=bytes,
        query=(("code", "the issuer's"), ("state", "of this log-in"), ("iss", "the issuer")),
    ),
)
