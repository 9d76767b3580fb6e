"""The operator API's operators: setup, sessions, tokens, roles, the audit log."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from farshore.core.errors import Denied, Invalid
from farshore.hub import moments
from farshore.hub.api import access, door
from farshore.hub.api.door import Endpoint
from farshore.hub.hub import Hub
from farshore.hub.idtokens import MAX_TEXT
from farshore.hub.operators import MAX_SECONDS, SESSION_SECONDS, csrf_of
from farshore.hub.passwords import MAX
from farshore.hub.records import audit as books
from farshore.hub.records import operators as records
from farshore.hub.roles import Grant

MAX_BODY = 8 << 10
MAX_SERIAL = 1 << 53
PAGE = 1000
MAX_SEARCH = 200

Password = Annotated[str, Meta(min_length=1, max_length=MAX)]
Grants = Annotated[tuple[Grant, ...], Meta(max_length=64)]


class Login(Struct, frozen=True, forbid_unknown_fields=True):
    """A name and its password."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    password: Password


class Setup(Struct, frozen=True, forbid_unknown_fields=True):
    """A setup link's secret, and the password that its operator chooses."""

    secret: Annotated[str, Meta(min_length=16, max_length=128)]
    password: Password


class Me(Struct, frozen=True):
    """Who asks, what they may do, and the token or session they come with; ``csrf`` goes into ``X-CSRF-Token`` of everything that changes something, "" with a token."""

    name: str
    grants: tuple[Grant, ...]
    via: str
    csrf: str = ""


class NewOperator(Struct, frozen=True, forbid_unknown_fields=True):
    """An operator's roles; ``oidc`` is the subject or e-mail by which they come from the issuer, "" to end that."""

    grants: Annotated[tuple[Grant, ...], Meta(min_length=1, max_length=64)]
    oidc: Annotated[str, Meta(max_length=MAX_TEXT)] | None = None


class Operator(Struct, frozen=True, omit_defaults=True):
    """An operator; ``active`` once they chose a password, or came from the issuer as ``oidc``; ``setup`` their one-time link, told
    only when it is made.
    """

    name: str
    grants: tuple[Grant, ...]
    created: str
    active: bool
    setup: str = ""
    oidc: str = ""


class NewToken(Struct, frozen=True, forbid_unknown_fields=True):
    """A token to make; without ``grants`` it may do what its owner may, without ``seconds`` it lives 90 days."""

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    seconds: Annotated[int, Meta(ge=1, le=MAX_SECONDS)] | None = None
    grants: Grants | None = None


class Token(Struct, frozen=True, omit_defaults=True):
    """An operator's token; ``token`` itself is told only when it is made."""

    id: str
    name: str
    operator: str
    grants: tuple[Grant, ...]
    created: str
    expires: str | None = None
    token: str = ""


class Line(Struct, frozen=True):
    """A line of the audit log; ``before`` and ``after`` are digests, ``chain`` is over this line and all before it."""

    serial: int
    at: str
    who: str
    via: str
    action: str
    subject: str
    before: str
    after: str
    chain: str


async def settle(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    check_origin(request)
    asked = await door.read(request, Setup, what="setup", limit=MAX_BODY)
    name = await hub.long_work(hub.operators.settle_password, asked.secret, asked.password)
    return door.reply(request, {"name": name})


async def login(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    check_origin(request)
    asked = await door.read(request, Login, what="login", limit=MAX_BODY)
    before = request.cookies.get(access.cookie_name(hub), "")
    caller, secret = await hub.long_work(hub.operators.login, asked.name, asked.password, before)
    answer = door.reply(request, Me(caller.name, caller.grants, caller.via, csrf_of(secret)))
    set_cookie(hub, answer, secret, SESSION_SECONDS)
    return answer


async def logout(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    secret = request.cookies.get(access.cookie_name(hub))
    if secret is not None:
        await hub.threads(hub.operators.logout, secret)
    answer = Response(status_code=204)
    set_cookie(hub, answer, "", 0)
    return answer


async def me(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    caller, secret = access.caller(request), request.cookies.get(access.cookie_name(hub))
    in_session = caller.via.startswith("session:") and secret is not None
    return door.reply(
        request, Me(caller.name, caller.grants, caller.via, csrf_of(secret) if in_session and secret else "")
    )


async def list_operators(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    return door.reply(request, [_operator(row) for row in await hub.threads(hub.operators.every)])


async def put_operator(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    name = door.segment(request, "operator")
    asked = await door.read(request, NewOperator, what="operator", limit=MAX_BODY)

    def make() -> Operator:
        secret = hub.operators.invite(name, asked.grants, asked.oidc)
        [row] = [one for one in hub.operators.every() if one.name == name]
        return _operator(row, hub.setup_link(secret) if secret else "")

    return door.reply(request, await hub.threads(make))


async def delete_operator(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    await hub.threads(hub.operators.remove, door.segment(request, "operator"))
    return Response(status_code=204)


async def list_tokens(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    found = await hub.threads(hub.operators.tokens, access.caller(request))
    return door.reply(request, [_token(row) for row in found])


async def create_token(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    asked = await door.read(request, NewToken, what="token", limit=MAX_BODY)
    caller = access.caller(request)
    made = await hub.threads(hub.operators.create_token, caller, asked.name, asked.grants, asked.seconds)
    return door.reply(request, _token(*made), 201)


async def delete_token(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    await hub.threads(hub.operators.revoke, access.caller(request), door.segment(request, "token"))
    return Response(status_code=204)


async def audit(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    limit = door.number(request, "limit", 100, 1, PAGE)
    after, before = (door.number(request, name, -1, 0, MAX_SERIAL) for name in ("after", "before"))
    search = request.query_params.get("search", "")
    if after >= 0 and (before >= 0 or search):
        raise Invalid("audit: after goes alone; search and before look from the end")
    if len(search) > MAX_SEARCH:
        raise Invalid(f"search: {len(search)} characters; at most {MAX_SEARCH} are looked for")

    def find() -> list[books.Line]:
        with hub.database.reading() as tx:
            if after >= 0:
                return books.after(tx, after, limit)
            return books.newest(tx, limit, before=before if before >= 0 else None, search=search)

    return door.reply(request, [_line(row) for row in await hub.threads(find)])


def check_origin(request: Request) -> None:
    """Pass unless the request comes from another site's page: nobody logs a visitor in, or sets them up, from there.

    Raises:
        Denied: it does.

    """
    if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        raise Denied("this comes from another site's page")


def set_cookie(hub: Hub, answer: Response, secret: str, seconds: int) -> None:
    """Give, or with 0 seconds take, the cookie of a session."""
    secure = hub.settings.url.startswith("https:")
    answer.set_cookie(
        access.cookie_name(hub), secret, max_age=seconds, path="/", secure=secure, httponly=True, samesite="strict"
    )


def _operator(row: records.Operator, setup: str = "") -> Operator:
    active = bool(row.password or row.subject)
    return Operator(row.name, row.grants, moments.text(row.created), active, setup, row.oidc)


def _token(row: records.Token, secret: str = "") -> Token:
    return Token(
        row.id, row.name, row.operator, row.grants, moments.text(row.created), moments.text_or_none(row.expires), secret
    )


def _line(row: books.Line) -> Line:
    return Line(
        row.serial, moments.text(row.at), row.who, row.via, row.action, row.subject, row.before, row.after, row.chain
    )


ENDPOINTS = (
    Endpoint("POST", "/v1/setup", settle, "Choose a password by a setup link", "anyone", Setup, dict[str, str]),
    Endpoint("POST", "/v1/login", login, "Begin a session (cookie)", "anyone", Login, Me),
    Endpoint("POST", "/v1/logout", logout, "End the session", status=204),
    Endpoint("GET", "/v1/me", me, "Who asks, and what they may do", gives=Me),
    Endpoint("GET", "/v1/operators", list_operators, "Operators", gives=list[Operator]),
    Endpoint(
        "PUT",
        "/v1/operators/{operator}",
        put_operator,
        "Add an operator, change roles, or give a new setup link",
        takes=NewOperator,
        gives=Operator,
    ),
    Endpoint("DELETE", "/v1/operators/{operator}", delete_operator, "Remove an operator", status=204),
    Endpoint("GET", "/v1/tokens", list_tokens, "API tokens", gives=list[Token]),
    Endpoint("POST", "/v1/tokens", create_token, "An API token", takes=NewToken, gives=Token, status=201),
    Endpoint("DELETE", "/v1/tokens/{token}", delete_token, "Revoke a token", status=204),
    Endpoint(
        "GET",
        "/v1/audit",
        audit,
        "Who changed what: the newest lines, or those after a serial",
        gives=list[Line],
        query=(
            ("after", "serial to begin after"),
            ("before", "serial to end before"),
            ("search", "part of who, what was done, or to what"),
            ("limit", "most items, 1 to 1000"),
        ),
    ),
)
