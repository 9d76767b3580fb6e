"""``farshore patch``: files in, files out, no hub."""

import json
import stat

import pytest
from tests.cli.conftest import Shell

from farshore.cli import patch


@pytest.fixture
def farshore(monkeypatch, capsys):
    return Shell(None, None, monkeypatch, capsys)


@pytest.fixture
def models(tmp_path):
    """Two versions of a model whose weights moved a little, and a stranger."""
    onnx = pytest.importorskip("onnx")
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(1).standard_normal((64, 300)).astype(np.float32)

    def save(name, values, producer=""):
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["x", "weights"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 300])],
            [numpy_helper.from_array(values, "weights")],
        )
        path = tmp_path / name
        onnx.save(helper.make_model(graph, producer_name=producer), path)
        return path

    moved = weights.copy()
    moved[:3] += np.float32(0.001)
    other = np.random.default_rng(2).standard_normal((64, 300)).astype(np.float32)
    return save("a.onnx", weights), save("b.onnx", moved, "second"), save("other.onnx", other)


@pytest.mark.parametrize("level", ["fast", "default", "max", "auto"])
def test_what_is_made_applies(farshore, models, tmp_path, level):
    a, b, _ = models
    patch, out = tmp_path / "p", tmp_path / "out"
    made = json.loads(farshore.ok("patch", "make", a, b, "-o", patch, "--level", level, "--json"))
    assert made["size"] == patch.stat().st_size < b.stat().st_size / 4
    assert made["level"] == level or level == "auto"
    farshore.ok("patch", "apply", a, patch, "-o", out)
    assert out.read_bytes() == b.read_bytes()
    assert stat.S_IMODE(out.stat().st_mode) == 0o644


@pytest.mark.parametrize(
    ("rate", "slower", "level"),
    [(64_000, 4, "default"), (1_000, 4, "max"), (1e9, 1, "fast"), (64_000, 100, "fast"), (1e9, 1e-9, "max")],
)
def test_the_soonest_level_by_link_and_device(rate, slower, level):
    costs = {"fast": (1_000_000, 0.01), "default": (800_000, 0.5), "max": (780_000, 2.0)}
    assert patch.soonest(costs, rate, slower) == level


def test_auto_weighs_bytes_against_seconds(farshore, models, tmp_path):
    a, _, b = models
    slow = farshore.ok("patch", "make", a, b, "-o", tmp_path / "1", "--level", "auto", "--rate", "10B", "--json")
    fast = farshore.ok(
        "patch", "make", a, b, "-o", tmp_path / "2", "--level", "auto", "--rate", "1TB", "--slower", "1e4", "--json"
    )
    assert json.loads(slow)["size"] < json.loads(fast)["size"]
    assert json.loads(fast)["level"] == "fast"


def test_any_order_of_bases_and_none(farshore, models, tmp_path):
    a, b, other = models
    farshore.ok("patch", "make", other, a, b, "-o", tmp_path / "p")
    farshore.ok("patch", "apply", a, other, tmp_path / "p", "-o", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b.read_bytes()
    farshore.ok("patch", "make", b, "-o", tmp_path / "small")
    farshore.ok("patch", "apply", tmp_path / "small", "-o", tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == b.read_bytes()


def test_an_empty_file_is_a_file(farshore, tmp_path):
    (tmp_path / "empty").touch()
    (tmp_path / "full").write_bytes(b"full")
    farshore.ok("patch", "make", tmp_path / "full", tmp_path / "empty", "-o", tmp_path / "p")
    farshore.ok("patch", "apply", tmp_path / "full", tmp_path / "p", "-o", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b""
    assert "no frames" in farshore.ok("patch", "info", tmp_path / "p")


def test_info_says_where_the_bytes_go(farshore, models, tmp_path):
    a, b, _ = models
    farshore.ok("patch", "make", a, b, "-o", tmp_path / "p")
    told = farshore.ok("patch", "info", tmp_path / "p", "--target", b, "--all")
    assert "level   default" in told
    assert "weights" in told
    found = json.loads(farshore.ok("patch", "info", tmp_path / "p", "--json"))
    assert found["size"] == (tmp_path / "p").stat().st_size
    assert found["target_size"] == b.stat().st_size
    assert sum(frame["target_bytes"] for frame in found["frames"]) == b.stat().st_size
    assert sum(frame["size"] for frame in found["frames"]) < found["size"] + 16 * len(found["frames"])
    assert [base[0] for base in found["bases"]] == [a.stat().st_size]
    assert "about bytes" in told


def test_info_with_the_base_says_what_each_tensor_cost(farshore, models, tmp_path):
    a, b, other = models
    farshore.ok("patch", "make", a, b, "-o", tmp_path / "p")
    told = farshore.ok("patch", "info", tmp_path / "p", "--base", a, "--target", b)
    assert "about bytes" not in told
    assert "float32" in told
    found = json.loads(farshore.ok("patch", "info", tmp_path / "p", "--base", a, "--json"))
    assert found["exact"]
    assert sum(part["cost"] for frame in found["frames"] for part in frame["parts"]) <= found["size"]
    assert farshore("patch", "info", tmp_path / "p", "--base", other)[0] == 2


def test_what_is_there_is_not_written_over(farshore, models, tmp_path):
    a, b, _ = models
    out = tmp_path / "p"
    out.write_text("dear to me")
    code, _, err = farshore("patch", "make", a, b, "-o", out)
    assert (code, out.read_text()) == (4, "dear to me")
    assert "--force" in err
    farshore.ok("patch", "make", a, b, "-o", out, "--force")
    code, _, err = farshore("patch", "apply", a, out, "-o", b)
    assert code == 4


def test_nothing_half_made_is_left(farshore, models, tmp_path):
    a, b, other = models
    patch = tmp_path / "p"
    farshore.ok("patch", "make", a, b, "-o", patch)
    before = sorted(tmp_path.iterdir())
    code, _, err = farshore("patch", "apply", other, patch, "-o", tmp_path / "out")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "base that is not held" in err
    data = bytearray(patch.read_bytes())
    data[-5] ^= 1
    patch.write_bytes(data)
    code, _, err = farshore("patch", "apply", a, patch, "-o", tmp_path / "out")
    assert (code, len(err.splitlines())) == (6, 1)
    patch.write_bytes(data[:-9])
    assert farshore("patch", "apply", a, patch, "-o", tmp_path / "out")[0] == 6
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("make", "MISSING", "-o", "OUT"), 3, "no file"),
        (("make", "FILE", "-o", "MISSING/out"), 3, "no folder"),
        (("make", "FILE", "-o", "FOLDER"), 2, "folder"),
        (("make", "FILE", "-o", "OUT", "--rate", "soon"), 2, "soon"),
        (("make", "FILE", "-o", "OUT", "--slower", "0"), 2, "--slower"),
        (("apply", "FILE", "-o", "OUT"), 2, "not a Farshore patch"),
        (("info", "FILE"), 2, "not a Farshore patch"),
        (("bench", "MISSING"), 3, "no folder"),
        (("bench", "FOLDER"), 3, "no pairs"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_use_is_one_clear_line(farshore, tmp_path, arguments, code, words):
    (tmp_path / "file").write_bytes(b"some bytes that are no patch")
    (tmp_path / "folder").mkdir()
    places = {name.upper(): tmp_path / name for name in ("file", "folder", "missing", "out")}
    placed = [
        str(places["MISSING"] / "out") if one == "MISSING/out" else str(places.get(one, one)) for one in arguments
    ]
    status, out, err = farshore("patch", *placed)
    assert (status, out, len(err.splitlines())) == (code, "", 1)
    assert words in err
    assert not (tmp_path / "out").exists()


def test_the_wrong_target_names_nothing(farshore, models, tmp_path):
    a, b, other = models
    farshore.ok("patch", "make", a, b, "-o", tmp_path / "p")
    code, _, err = farshore("patch", "info", tmp_path / "p", "--target", other)
    assert code == 2
    assert "not what this patch makes" in err


def test_bench_compares_exact_sizes(farshore, models, tmp_path):
    a, b, _ = models
    for side, data in (("a", a.read_bytes()), ("b", b.read_bytes())):
        (tmp_path / "pairs" / "moved" / side).mkdir(parents=True)
        (tmp_path / "pairs" / "moved" / side / "model.onnx").write_bytes(data)
    (tmp_path / "pairs" / "new" / "a").mkdir(parents=True)
    (tmp_path / "pairs" / "new" / "b").mkdir(parents=True)
    (tmp_path / "pairs" / "new" / "b" / "model.onnx").write_bytes(a.read_bytes())
    cache = tmp_path / "sizes.json"
    rows = json.loads(farshore.ok("patch", "bench", tmp_path / "pairs", "--cache", cache, "--json"))
    assert [row["pair"] for row in rows] == ["moved", "new"]
    patch = tmp_path / "p"
    farshore.ok("patch", "make", a, b, "-o", patch, "--level", "max")
    assert rows[0]["ours"]["max"]["size"] == patch.stat().st_size
    assert rows[0]["best"] == min(
        rows[0]["others"][name] for name in rows[0]["others"] if name not in ("zip", "(xz lp=2)", "chunks")
    )
    assert rows[1]["kind"] == "no base"
    table = farshore.ok("patch", "bench", tmp_path / "pairs", "--cache", cache, "--only", "moved", "--level", "fast")
    assert "moved" in table
    assert "geometric mean" in table
    assert "fast: larger than the smallest of the others by over 200 bytes:" in table
    assert not any(line.startswith("new") for line in table.splitlines())


def test_the_tables_of_bench_fit_a_terminal(farshore, models, tmp_path):
    """A hundred columns, however long a name and however large a model of a few megabytes."""
    from farshore.cli.pairs import Measured, Patched
    from farshore.cli.rivals import tools

    row = Measured(
        "ft_det_unf_to_folded_small", "other precision, same weights", 3_778_192, 3_724_900,
        dict.fromkeys([*tools(), "xdelta3", "brotli 11", "bsdiff*"], 3_394_071), dict.fromkeys(patch.LEVELS, Patched(2_406_510, 13.8, 189.5)),
    )  # fmt: skip
    levels = tuple(reversed(patch.LEVELS))
    for show in (patch._print_sizes, patch._print_speeds, patch._print_means):
        show([row], levels)
    patch._print_rivals([row])
    out = farshore._capsys.readouterr().out
    assert max(len(line.rstrip()) for line in out.splitlines()) <= 100
    assert "3394071" in out
