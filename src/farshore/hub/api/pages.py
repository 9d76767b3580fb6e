"""OpenAPI, drawn from the routes themselves, and a page of it that needs nothing from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from html import escape
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

import farshore
from farshore.core.errors import BY_CODE, NotFound
from farshore.hub.api import door
from farshore.hub.api.door import Endpoint

_SECURITY: dict[str, list[dict[str, list[str]]]] = {
    "operator": [{"operator": []}],
    "device": [{"device": []}],
    "ticket": [{"ticket": []}],
    "service": [{"service": []}],
    "anyone": [],
}


def document(endpoints: Sequence[Endpoint], url: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document of ``endpoints``."""
    kinds = [kind for one in endpoints for kind in (one.takes, one.gives) if kind not in {None, bytes}]
    schemas, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    schema_of = {str(kind): schema for kind, schema in zip(kinds, schemas, strict=True)}
    paths: dict[str, Any] = {}
    for one in endpoints:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, schema_of)
    bearer = {"type": "http", "scheme": "bearer"}
    error = {
        "type": "object",
        "required": ["code", "message"],
        "properties": {"code": {"enum": sorted(BY_CODE)}, "message": {"type": "string"}},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Farshore hub", "version": farshore.__version__},
        "servers": [{"url": url}],
        "paths": paths,
        "components": {
            "schemas": {**components, "Error": {"type": "object", "properties": {"error": error}}},
            "securitySchemes": {
                "operator": {**bearer, "description": "an operator's API token"},
                "device": {**bearer, "description": "the credential a device made for itself"},
                "ticket": {"type": "apiKey", "in": "query", "name": "ticket"},
                "service": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "SharedAccessSignature, by the key of a shared access policy",
                },
            },
        },
    }


def _operation(one: Endpoint, schema_of: dict[str, Any]) -> dict[str, Any]:
    def body(kind: Any) -> dict[str, Any]:
        if kind is bytes:
            return {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
        return {"application/json": {"schema": schema_of[str(kind)]}}

    text = {"type": "string"}
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": text} for name in re.findall(r"{(\w+)}", one.path)
    ]
    parameters += [{"name": name, "in": "query", "description": meaning, "schema": text} for name, meaning in one.query]
    done: dict[str, Any] = {"description": "done"}
    if one.gives is not None:
        done["content"] = body(one.gives)
    wrong = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    found: dict[str, Any] = {
        "summary": one.summary,
        "operationId": one.handler.__name__ if one.who != "service" else _named(one),
        "security": _SECURITY[one.who],
        "parameters": parameters,
        "responses": {str(one.status): done, "default": {"description": "an error", "content": wrong}},
    }
    if one.takes is not None:
        found["requestBody"] = {"required": True, "content": body(one.takes)}
    return found


def _named(one: Endpoint) -> str:
    """Of routes for devices and modules alike: by what they are called."""
    return "_".join(["service", one.method.lower(), *re.findall(r"\w+", one.path)])


_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c2733;background:#fff}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin:2rem 0 .5rem}details{border-top:1px solid #d8dee4;padding:.45rem 0}
summary{cursor:pointer}code,pre{font:13px/1.45 ui-monospace,monospace}pre{background:#f4f6f8;padding:.75rem;overflow:auto}
.m{display:inline-block;width:4.2rem;font-weight:600}.who{color:#5b6b7b;float:right}
@media(prefers-color-scheme:dark){body{color:#dbe4ec;background:#11171d}pre{background:#1b242c}details{border-color:#2c3943}}
"""


def page(endpoints: Sequence[Endpoint], openapi: dict[str, Any]) -> str:
    """The same as HTML, without scripts."""
    url = openapi["servers"][0]["url"]
    rows = []
    for title, chosen in (
        ("Operators", [one for one in endpoints if one.who == "operator"]),
        ("Devices", [one for one in endpoints if one.path.startswith("/device/")]),
        ("Services that speak IoT Hub's dialect", [one for one in endpoints if one.who == "service"]),
        ("Anyone", [one for one in endpoints if one.who == "anyone" and not one.path.startswith("/device/")]),
    ):
        rows.append(f"<h2>{title}</h2>")
        rows += [_entry(one, openapi["paths"][one.path][one.method.lower()]) for one in chosen]
    schemas = msgspec.json.format(msgspec.json.encode(openapi["components"]["schemas"]), indent=2).decode()
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Farshore hub API</title><style>{_STYLE}</style>"
        "<meta name=viewport content='width=device-width'><h1>Farshore hub API</h1>"
        f"<p>Version {escape(farshore.__version__)} at <code>{escape(url)}</code>. "
        "As <a href='/openapi.json'>OpenAPI 3.1</a>. Errors are <code>{&quot;error&quot;: {code, message}}</code>; "
        "operators and devices send <code>Authorization: Bearer …</code>.</p>"
        + "".join(rows)
        + f"<h2>Types</h2><details><summary>All JSON schemas</summary><pre>{escape(schemas)}</pre></details></html>"
    )


def _entry(one: Endpoint, operation: dict[str, Any]) -> str:
    facts = {name: operation[name] for name in ("parameters", "requestBody", "responses") if operation.get(name)}
    shown = msgspec.json.format(msgspec.json.encode(facts), indent=2).decode()
    return (
        f"<details><summary><span class=m>{one.method}</span><code>{escape(one.path)}</code> "
        f"<span class=who>{one.who}</span> — {escape(one.summary)}</summary><pre>{escape(shown)}</pre></details>"
    )


class Pages:
    """Both forms, each made when it is first asked for.

    Args:
        endpoints: all of them.
        url: where the hub is.

    """

    def __init__(self, endpoints: Sequence[Endpoint], url: str) -> None:
        self._endpoints = endpoints
        self._url = url

    @cached_property
    def openapi(self) -> dict[str, Any]:
        return document(self._endpoints, self._url)

    @cached_property
    def docs(self) -> str:
        return page(self._endpoints, self.openapi)


async def health(request: Request) -> Response:
    return door.reply(request, {"ok": True})


async def openapi(request: Request) -> Response:
    return door.reply(request, request.app.state.pages.openapi)


async def docs(request: Request) -> Response:
    headers = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'", "Cache-Control": "no-store"}
    return HTMLResponse(request.app.state.pages.docs, headers=headers)


async def ca(request: Request) -> Response:
    found = request.app.state.hub.authority
    if found is None:
        raise NotFound(
            "this hub is no certificate authority: its certificate is from elsewhere, or it speaks plain HTTP"
        )
    return door.content(request, found.pem, "application/x-pem-file")


ENDPOINTS = (
    Endpoint("GET", "/ca.pem", ca, "The hub's own certificate authority", "anyone", gives=bytes),
    Endpoint("GET", "/healthz", health, "Whether the hub lives", "anyone", gives=dict[str, bool]),
    Endpoint("GET", "/openapi.json", openapi, "This API, for programs", "anyone", gives=dict[str, Any]),
    Endpoint("GET", "/docs", docs, "This API, for people", "anyone", gives=bytes),
)
