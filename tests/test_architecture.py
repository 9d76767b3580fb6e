"""What imports cannot show: pure rooms call no builtin that does IO or reads a clock."""

import ast
import pathlib

import pytest

SOURCE = pathlib.Path(__file__).parents[1] / "src" / "farshore"
PURE = [
    "core",
    "formats",
    "delta",
    "mqtt",
    "trust",
    "hub/costs.py",
    "hub/deployment.py",
    "hub/kinship.py",
    "hub/selector.py",
    "hub/timeline.py",
    "agent/plan.py",
    "serve/policy.py",
]
FORBIDDEN_NAMES = {"open", "input", "print", "exec", "eval", "compile", "__import__", "breakpoint"}
FORBIDDEN_CALLS = {
    ("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("date", "today"),
    ("time", "time"), ("time", "monotonic"), ("time", "sleep"), ("os", "environ"), ("os", "urandom"),
}  # fmt: skip


def files():
    for place in PURE:
        path = SOURCE / place
        assert path.exists(), f"{place} is declared pure and does not exist"
        yield from [path] if path.is_file() else sorted(path.rglob("*.py"))


@pytest.mark.parametrize("path", list(files()), ids=lambda path: str(path.relative_to(SOURCE)))
def test_pure_rooms_do_no_io(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in FORBIDDEN_NAMES, f"{path.name}:{node.lineno} calls {node.func.id}()"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) not in FORBIDDEN_CALLS, (
                f"{path.name}:{node.lineno} reads {node.value.id}.{node.attr}"
            )


def test_every_room_tells_what_it_is_for():
    for room in SOURCE.iterdir():
        if room.is_dir() and room.name != "__pycache__":
            assert ast.get_docstring(ast.parse((room / "__init__.py").read_text())), (
                f"{room.name}/__init__.py has no docstring"
            )


@pytest.mark.parametrize(
    ("module", "banned"),
    [
        (
            "farshore.agent.loop",
            {"onnxruntime", "ai_edge_litert", "starlette", "granian", "sqlalchemy", "obstore", "PIL", "paho"},
        ),
        ("farshore.serve.front", {"onnxruntime", "ai_edge_litert", "numpy", "PIL", "starlette", "sqlalchemy"}),
        ("farshore.cli", {"onnxruntime", "ai_edge_litert", "numpy", "PIL", "starlette", "sqlalchemy", "urllib3"}),
    ],
)
def test_what_an_import_pulls_in(module, banned):
    import subprocess
    import sys

    code = f"import sys, {module}; print(' '.join({{name.partition('.')[0] for name in sys.modules}}))"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert not loaded & banned
