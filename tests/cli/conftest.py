"""A real hub, and the command line run in this process with its exit status and output."""

import sys

import onnx
import pytest
from onnx import TensorProto, helper

from farshore.cli import main
from farshore.cli.world import READY, Process, answers, free_port, wait_for


class Shell:
    """Runs ``farshore …`` as a user would, against one hub."""

    def __init__(self, hub, token, monkeypatch, capsys):
        self.hub, self.token, self._patch, self._capsys = hub, token, monkeypatch, capsys

    def __call__(self, *arguments, **environment):
        self._patch.setattr(sys, "argv", ["farshore", *map(str, arguments)])
        for name, value in {"FARSHORE_HUB": self.hub, "FARSHORE_TOKEN": self.token, **environment}.items():
            self._patch.setenv(name, value) if value is not None else self._patch.delenv(name, raising=False)
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = self._capsys.readouterr()
        return ended.value.code or 0, out, err

    def ok(self, *arguments, **environment):
        code, out, err = self(*arguments, **environment)
        assert code == 0, err
        return out


@pytest.fixture(scope="session")
def hub_process(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    port = free_port()
    process = Process(["hub", "--data", str(folder / "data"), "--port", str(port)], folder / "log")
    process.start()
    try:
        wait_for(lambda: answers(port, "/healthz"), READY, "the hub", process)
        yield f"http://127.0.0.1:{port}", folder / "data" / "admin.token"
    finally:
        process.stop()


@pytest.fixture
def farshore(hub_process, monkeypatch, capsys):
    url, token = hub_process
    return Shell(url, token.read_text().strip(), monkeypatch, capsys)


@pytest.fixture
def classifier(tmp_path):
    """Writes a small classifier: ``classifier(name, weight)`` → its path."""

    def make(name="model.onnx", weight=1.0, classes=3):
        weights = helper.make_tensor("w", TensorProto.FLOAT, [classes, 3, 32, 32], [weight] * (classes * 3072))
        graph = helper.make_graph(
            [
                helper.make_node("Mul", ["x", "255th"], ["n"]),
                helper.make_node("Conv", ["n", "w"], ["c"]),
                helper.make_node("Flatten", ["c"], ["f"]),
                helper.make_node("Softmax", ["f"], ["p"]),
            ],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 32, 32])],
            [helper.make_tensor_value_info("p", TensorProto.FLOAT, [1, classes])],
            [weights, helper.make_tensor("255th", TensorProto.FLOAT, [1], [1 / 255])],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        path = tmp_path / name
        onnx.save(model, path)
        (tmp_path / "labels.txt").write_text("".join(f"thing {i}\n" for i in range(classes)))
        return path

    return make
