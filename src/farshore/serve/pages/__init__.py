"""The page at ``/``: one file that needs nothing from anywhere else, held to that by its Content-Security-Policy."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from farshore.serve.http import Response


def index() -> Response:
    """The page, read once. Its policy names its own script and style by digest, so that nothing else can run."""
    text = (Path(__file__).parent / "index.html").read_bytes()
    script, style = (
        _digest(re.search(rb"<%b>(.*?)</%b>" % (tag, tag), text, re.DOTALL)) for tag in (b"script", b"style")
    )
    policy = (
        f"default-src 'none'; script-src {script}; style-src {style}; img-src blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = (
        f"Content-Security-Policy: {policy}\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n"
        "Cache-Control: no-cache\r\n"
    )
    return Response(200, text, "text/html; charset=utf-8", headers)


def _digest(found: re.Match[bytes] | None) -> str:
    assert found is not None  # the page is this package's own
    return f"'sha256-{base64.b64encode(hashlib.sha256(found[1]).digest()).decode()}'"
