"""The way in and out: log-in, set-up, the look of things, static files."""

from __future__ import annotations

from urllib.parse import parse_qs

from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from farshore.core.errors import Denied, FarshoreError, Invalid, TooLarge, Unauthenticated
from farshore.hub.api import access, door
from farshore.hub.api.operators import check_origin, set_cookie
from farshore.hub.hub import Hub
from farshore.hub.operators import SESSION_SECONDS
from farshore.hub.passwords import MAX, MIN
from farshore.hub.studio import asking
from farshore.hub.studio.languages import LANGUAGES
from farshore.hub.studio.page import HEADERS, HOME, LANGUAGE, THEME, THEMES, YEAR, Shown, local, static, studio_of

MAX_FORM = 8 << 10
MAX_FIELDS = 8


async def root(_request: Request) -> Response:
    return RedirectResponse(HOME, 303, HEADERS)


async def login_page(request: Request) -> Response:
    return _login(request, local(request.query_params.get("next", "")))


async def login(request: Request) -> Response:
    """A form's log-in, so that it needs no script: by name and password, or by an API token."""
    hub: Hub = request.app.state.hub
    try:
        check_origin(request)
        fields = await _form(request)
    except FarshoreError as error:
        return studio_of(request).failed(request, error)
    name, password, token = (fields.get(one, "") for one in ("name", "password", "token"))
    going, before = local(fields.get("next", "")), request.cookies.get(access.cookie_name(hub), "")
    try:
        if token:
            _, secret = await hub.threads(hub.operators.login_by_token, token.strip(), before)
        else:
            _, secret = await hub.long_work(hub.operators.login, name[:64], password[:MAX], before)
    except FarshoreError as error:
        return _login(request, going, error, name[:64])
    answer = RedirectResponse(going, 303, HEADERS)
    set_cookie(hub, answer, secret, SESSION_SECONDS)
    return answer


async def logout(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    try:
        check_origin(request)
        fields, me = await _form(request), await asking.get(request, "/v1/me")
        if not me["csrf"] or fields.get("csrf") != me["csrf"]:
            raise Denied("the CSRF token is missing or wrong: load the page again")
    except Unauthenticated:
        return RedirectResponse("/login", 303, HEADERS)
    except FarshoreError as error:
        return studio_of(request).failed(request, error)
    await hub.threads(hub.operators.logout, request.cookies[access.cookie_name(hub)])
    answer = RedirectResponse("/login", 303, HEADERS)
    set_cookie(hub, answer, "", 0)
    return answer


async def setup_page(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    values = {"least": MIN, "most": MAX, "issuer": hub.issuer is not None}
    return studio_of(request).render(request, Shown("setup.html", values))


async def look(request: Request) -> Response:
    """Keep a language or a theme, and go back. It changes nothing but how pages look to this browser."""
    asked = request.query_params
    answer = RedirectResponse(local(asked.get("back", "")), 303, HEADERS)
    for name, key, known in ((LANGUAGE, "language", (*LANGUAGES,)), (THEME, "theme", THEMES)):
        wanted = asked.get(key)
        if wanted in known:
            answer.set_cookie(name, wanted, max_age=YEAR, path="/", samesite="strict", httponly=True)
        elif wanted == "auto":
            answer.delete_cookie(name, path="/")
    return answer


def _login(request: Request, going: str, error: FarshoreError | None = None, name: str = "") -> Response:
    hub: Hub = request.app.state.hub
    values = {"next": going, "error": error, "name": name, "issuer": hub.issuer is not None}
    values["development"] = hub.settings.development
    return studio_of(request).render(request, Shown("login.html", values, error.status if error else 200))


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form.

    Raises:
        Invalid: not a form, cut short, or something stands in it twice.
        TooLarge: too long.

    """
    wanted, data = door.length(request, MAX_FORM), bytearray()
    try:
        async for piece in request.stream():
            data += piece
            if len(data) > wanted:
                raise TooLarge("form: longer than announced")
    except ClientDisconnect:
        raise Invalid("form: cut short") from None
    try:
        fields = parse_qs(data.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except ValueError:
        raise Invalid("form: not one that this page makes") from None
    if any(len(values) > 1 for values in fields.values()):
        raise Invalid("form: something stands in it twice")
    return {name: values[0] for name, values in fields.items()}


ROUTES = (
    Route("/", root, methods=["GET"]),
    Route("/login", login_page, methods=["GET"]),
    Route("/login", login, methods=["POST"]),
    Route("/logout", logout, methods=["POST"]),
    Route("/setup", setup_page, methods=["GET"]),
    Route("/studio/look", look, methods=["GET"]),
    Route("/studio/static/{stamp}/{name}", static, methods=["GET"]),
)
