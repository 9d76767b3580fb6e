"""What comes from outside and points outside: operators that devices do not have, and addresses that nobody should follow."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from onnx import helper

import farshore
from farshore import formats
from farshore.core.errors import Invalid
from farshore.hub import ingest

HUB = Path(farshore.__file__).parent / "hub"
CLIENTS = {"urllib3", "urllib.request", "http.client", "httpx", "requests", "aiohttp", "ftplib", "smtplib", "xmlrpc"}


def model(domain: str) -> bytes:
    value = helper.make_tensor_value_info
    nodes = [helper.make_node("Magic", ["x"], ["y"], domain=domain)]
    graph = helper.make_graph(nodes, "g", [value("x", 1, [1, 3, 8, 8])], [value("y", 1, [1])])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(domain, 1)]).SerializeToString()


@pytest.mark.parametrize("domain", ["acme", "com.microsoft.evil", "ai.onnx.contrib"])
def test_onnx_operators_of_unknown_makers_are_refused_at_ingest(domain):
    info = formats.inspect(model(domain))
    [custom] = info.custom
    with pytest.raises(Invalid, match="custom operator"):
        ingest._check_custom(info, custom.op)


def imported(path: Path) -> set[str]:
    """Modules that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_the_hub_cannot_be_sent_to_fetch_an_address():
    """It has no client to do it with, but for the issuer that its settings name (``test_oidc``), and for the inference servers that it
    starts itself to try versions out, at 127.0.0.1: no request, manifest, model or twin can make it connect anywhere.
    """
    found = {
        f"{path.relative_to(HUB)}: {name}"
        for path in HUB.rglob("*.py")
        for name in imported(path)
        if any(name == client or name.startswith(f"{client}.") for client in CLIENTS)
    }
    assert found == {"issuer.py: urllib3", "tryouts.py: http.client"}
    assert (HUB / "tryouts.py").read_text().count("HTTPConnection(") == 1
    assert 'HTTPConnection("127.0.0.1", ' in (HUB / "tryouts.py").read_text()
    assert "urllib3" in {name for path in (HUB.parent / "agent").rglob("*.py") for name in imported(path)}, "it looks"
