import pathlib
import re

import pytest

from farshore.hub.app import ENDPOINTS

DOCS = pathlib.Path(__file__).parents[3] / "docs" / "formats"


@pytest.fixture
def openapi(client):
    return client.get("/openapi.json").json()


def test_every_route_is_described(openapi):
    described = {(method.upper(), path) for path, methods in openapi["paths"].items() for method in methods}
    assert described == {(one.method, one.path) for one in ENDPOINTS}


def test_every_reference_leads_somewhere(openapi):
    def walk(value):
        if isinstance(value, dict):
            if "$ref" in value:
                yield value["$ref"]
            for inner in value.values():
                yield from walk(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from walk(inner)

    names = {ref.removeprefix("#/components/schemas/") for ref in walk(openapi)}
    assert names
    assert names <= set(openapi["components"]["schemas"])


def test_operations_have_names_of_their_own(openapi):
    names = [operation["operationId"] for methods in openapi["paths"].values() for operation in methods.values()]
    assert len(names) == len(set(names))


def test_the_page_needs_nothing_from_elsewhere(client):
    page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert not re.search(r"<script|<link|src=|url\(|https?://(?!127\.0\.0\.1)", page.text)
    for one in ENDPOINTS:
        assert one.path in page.text


@pytest.mark.parametrize("one", ENDPOINTS, ids=lambda one: f"{one.method} {one.path}")
def test_every_route_stands_in_the_docs(one):
    text = (DOCS / "api.md").read_text() + (DOCS / "wire.md").read_text()
    if one.who == "ticket":
        assert "GET <route's url>" in text
    else:
        assert f"{one.method} {one.path}" in text
