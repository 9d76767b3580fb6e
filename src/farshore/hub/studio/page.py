"""What all pages have in common: who looks, in which language and light, and the frame that keeps strangers' scripts out."""

from __future__ import annotations

import asyncio
import hashlib
import mimetypes
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import jinja2
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

import farshore
from farshore.core.errors import FarshoreError, NotFound, Unauthenticated
from farshore.hub import acting
from farshore.hub.api import door
from farshore.hub.hub import Hub
from farshore.hub.roles import INCLUDES
from farshore.hub.studio import asking, figures, graphics, languages
from farshore.hub.studio.languages import LANGUAGES, Voice

HOME = "/studio"
LANGUAGE, THEME = "farshore-language", "farshore-theme"
"""Cookies that keep how the visitor likes it; they say nothing about who it is."""
THEMES = ("light", "dark")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
}
YEAR = 365 * 24 * 3600
_HERE = Path(__file__).parent
_KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class Shown:
    """What a view answers.

    Attributes:
        template: name of the file under ``templates``.
        values: for it.
        status: HTTP status.

    """

    template: str
    values: Mapping[str, Any] = field(default_factory=dict)
    status: int = 200


@dataclass(frozen=True, slots=True)
class Visit:
    """Somebody's request for a page.

    Attributes:
        request: as it came.
        me: who looks, as ``GET /v1/me`` says.
        t: speaks their language.

    """

    request: Request
    me: dict[str, Any]
    t: Voice

    @property
    def hub(self) -> Hub:
        found: Hub = self.request.app.state.hub
        return found

    def segment(self, name: str) -> str:
        """A segment of the page's address; errors as :func:`~farshore.hub.api.door.segment`."""
        return door.segment(self.request, name)

    def asked(self, name: str) -> str:
        """A parameter of the page's address, "" where it is not there."""
        return self.request.query_params.get(name, "")

    async def get(self, *segments: object, **query: Any) -> Any:
        """The API's answer: ``get("models", name, limit=5)`` is ``GET /v1/models/<name>?limit=5``.

        Raises:
            FarshoreError: as the API answers; let it pass, and the visitor reads it on a page of its own.

        """
        return await asking.get(self.request, asking.address(*segments), query)

    async def get_if_allowed(self, *segments: object, **query: Any) -> Any:
        """As :meth:`get`; None where the visitor's role does not reach so far."""
        return await asking.get_if_allowed(self.request, asking.address(*segments), query)

    async def get_all(self, *wanted: Awaitable[Any]) -> list[Any]:
        """Several answers, asked for at the same time."""
        return await asyncio.gather(*wanted)


View = Callable[[Visit], Awaitable[Shown]]


@dataclass(frozen=True, slots=True)
class Page:
    """A page behind the log-in.

    Attributes:
        path: its address, with ``{name}`` segments.
        view: makes it.
        section: which entry of the menu it belongs to.

    """

    path: str
    view: View
    section: str


class Studio:
    """Templates, texts and static files, read once.

    Attributes:
        texts: as :func:`.languages.load` gives them.
        stamp: of the static files: part of their address, so that they may be kept for ever.

    """

    def __init__(self) -> None:
        self.texts = languages.load(_HERE / "languages")
        self.files = {path.name: path.read_bytes() for path in sorted((_HERE / "static").iterdir())}
        stamp = hashlib.sha256()
        for name, data in self.files.items():
            stamp.update(name.encode() + b"\0" + hashlib.sha256(data).digest())
        self.stamp = stamp.hexdigest()[:16]
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {
            "size": figures.size,
            "number": figures.number,
            "moment": figures.moment,
            "segment": segment,
            "query": lambda values: urlencode({name: one for name, one in values.items() if one not in (None, "")}),
        }
        self._templates.globals |= {
            "money": figures.money,
            "age": figures.age,
            "percent": figures.percent,
            "graphics": graphics,
            "LANGUAGES": LANGUAGES,
            "HOME": HOME,
            "VERSION": farshore.__version__,
        }

    def voice(self, request: Request) -> Voice:
        """Speaks the visitor's language."""
        kept, accepted = request.cookies.get(LANGUAGE, ""), request.headers.get("accept-language", "")
        return Voice(self.texts, languages.choose(kept, accepted))

    def render(
        self, request: Request, shown: Shown, *, me: dict[str, Any] | None = None, section: str = ""
    ) -> Response:
        """A page as HTML.

        Args:
            request: for it.
            shown: what it shows.
            me: who looks; None for strangers.
            section: its entry in the menu.

        """
        t, theme = self.voice(request), request.cookies.get(THEME, "")
        path, query = request.url.path, request.url.query
        hub: Hub = request.app.state.hub
        values = {
            "t": t,
            "theme": theme if theme in THEMES else "",
            "static": f"{HOME}/static/{self.stamp}",
            "here": f"{path}?{query}" if query else path,
            "may": lambda role: me is not None and may(me, role),
            "asked": request.query_params,
            "now": hub.clock(),
            "me": me,
            "section": section,
            **shown.values,
        }
        text = self._templates.get_template(shown.template).render(values)
        headers = {**HEADERS, "Content-Language": t.language, "Vary": "Accept-Language, Cookie"}
        return door.content(request, text.encode(), "text/html; charset=utf-8", shown.status, headers)

    def failed(self, request: Request, error: FarshoreError, me: dict[str, Any] | None = None) -> Response:
        """A page that says what is wrong."""
        return self.render(request, Shown("error.html", {"error": error}, error.status), me=me)


def segment(text: object) -> str:
    """``text`` as one segment of an address."""
    return quote(str(text), safe="")


def studio_of(request: Request) -> Studio:
    found: Studio = request.app.state.studio
    return found


def served(page: Page) -> Route:
    """The route of a page: who is not logged in goes to the log-in and comes back."""

    async def answer(request: Request) -> Response:
        acting.now.set(None)
        studio, me = studio_of(request), None
        try:
            me = await asking.get(request, "/v1/me")
            shown = await page.view(Visit(request, me, studio.voice(request)))
        except Unauthenticated:
            return to_login(request)
        except FarshoreError as error:
            return studio.failed(request, error, me)
        return studio.render(request, shown, me=me, section=page.section)

    return Route(page.path, answer, methods=["GET"], name=page.view.__name__)


def may(me: dict[str, Any], role: str) -> bool:
    """Whether whoever looks has ``role`` on any fleet: what they have not, they are not offered. The API decides."""
    return any(role in INCLUDES[one["role"]] for one in me["grants"])


def to_login(request: Request) -> Response:
    path, query = request.url.path, request.url.query
    asked = urlencode({"next": f"{path}?{query}" if query else path})
    return RedirectResponse(f"/login?{asked}", 303, HEADERS)


def local(address: str) -> str:
    """An address to go on to: one of Studio's own pages, whatever was asked for."""
    inside = address.isascii() and address.isprintable() and not any(char in address for char in "\\ \"'<>")
    return address if inside and (address == HOME or address.startswith((f"{HOME}/", f"{HOME}?"))) else HOME


async def static(request: Request) -> Response:
    """A static file; for ever, if the address has the stamp of what is here now."""
    studio, name = studio_of(request), request.path_params["name"]
    if name not in studio.files:
        return studio.failed(request, NotFound(f"no such file: {name[:80]}"))
    lasting = request.path_params["stamp"] == studio.stamp
    kind = _KINDS.get(Path(name).suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    keep = {"Cache-Control": f"public, max-age={YEAR}, immutable" if lasting else "no-cache"}
    return door.content(request, studio.files[name], kind, headers={**HEADERS, **keep})
