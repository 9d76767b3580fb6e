"""What holds for every page: who may see it, what it may load, and that names from outside stay text."""

import re

import pytest
from tests.hub.studio.conftest import Visitor

from farshore.hub.studio import PAGES
from farshore.hub.studio.page import HOME, local

PLAIN = [one.path for one in PAGES if "{" not in one.path]


@pytest.mark.parametrize("page", PAGES, ids=lambda one: one.path)
def test_a_stranger_is_sent_to_the_log_in_and_back(client, page):
    path = re.sub(r"{\w+}", "x", page.path)
    answer = client.get(path, follow_redirects=False)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/login?next=%2Fstudio")


@pytest.mark.parametrize("path", PLAIN)
def test_nothing_inline_and_nothing_from_elsewhere(visitor, path):
    answer = visitor.get(path)
    policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'" and policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert answer.headers["cache-control"] == "no-store"
    text = re.sub(r"<(pre|code)\b.*?</\1>", "", answer.text, flags=re.DOTALL)
    assert not re.search(r"<script(?![^>]*\bsrc=)", text) and "<style" not in text
    assert not re.search(r"<[^>]+\s(style|on\w+)=", text)
    for address in re.findall(r"""(?:src|href|action)=["']([^"']*)""", text):
        assert re.match(r"/|#|\?", address) and not address.startswith("//"), address


def test_static_files_are_kept_for_ever_by_their_stamp(visitor):
    found = re.findall(r'(/studio/static/[^"]+)"', visitor.text("/studio/models"))
    assert any(name.endswith(".css") for name in found) and any(name.endswith(".js") for name in found)
    for path in found:
        answer = visitor.get(path)
        assert "immutable" in answer.headers["cache-control"]
    stale = visitor.get(found[0].replace("/static/", "/static/0"))
    assert stale.headers["cache-control"] == "no-cache"
    visitor.get("/studio/static/0/nothing.css", status=404)
    visitor.get("/studio/static/0/..%2f__init__.py", status=404)


def test_an_error_of_the_api_is_a_page(visitor):
    text = visitor.text("/studio/models?after=x&search=" + "y" * 300, status=400)
    assert 'role="alert"' in text and "main" in text


def test_who_may_see_nothing_of_it_reads_why(operator, hub):
    hub.operators.settle_password(_invited(hub), "correct horse battery")
    operator.client.cookies.clear()
    said = {"name": "kari", "password": "correct horse battery"}
    assert operator.client.post("/login", data=said, follow_redirects=False).status_code == 303
    Visitor(operator.client).get("/studio/models")


def _invited(hub):
    from farshore.hub.roles import Grant

    return hub.operators.invite("kari", [Grant("viewer", "north")])


@pytest.mark.parametrize(
    "address",
    ["//evil.example", "https://evil.example", "/\\evil", "javascript:alert(1)", "", "/studiox", "/studio\n", "/docs"],
)
def test_going_on_leads_nowhere_else(address):
    assert local(address) == HOME


def test_going_on_leads_to_pages():
    assert local("/studio/models?search=a%20b") == "/studio/models?search=a%20b"


def test_the_look_is_kept_and_speaks(visitor):
    assert '<html lang="en">' in visitor.text("/studio/models")
    assert '<html lang="ko">' in visitor.text("/studio/models", headers={"Accept-Language": "ko-KR,ko;q=0.9"})
    back = visitor.get("/studio/look?language=zh-Hant&theme=dark&back=/studio/models", status=303)
    assert back.headers["location"] == "/studio/models"
    text = visitor.text("/studio/models")
    assert '<html lang="zh-Hant" data-theme="dark">' in text and "模型" in text
    visitor.get("/studio/look?language=auto&theme=auto", status=303)
    assert '<html lang="en">' in visitor.text("/studio/models")
    visitor.get("/studio/look?language=xx&theme=%22%3E", status=303)
    assert '<html lang="en">' in visitor.text("/studio/models")
