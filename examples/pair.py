"""Two ONNX detectors in one file: both look at the picture, and at each place the one that is surer counts.

    python examples/pair.py FAIR.onnx ROUGH.onnx OUT.onnx

An ensemble, as one is shipped when neither of two models is the better one everywhere. Its weights are those of its two
halves, bit for bit, so that a device that holds them lacks next to nothing of it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import onnx
from onnx import helper

BOXES, SCORES = "box/pixels", "yolonms_layer_1:1"
INPUTS = ("input_1", "image_shape")


def paired(first: onnx.ModelProto, second: onnx.ModelProto) -> bytes:
    """Serialise the two as one.

    Args:
        first, second: as `export_onnx` writes them, of the same labels; the second also tells how boxes become answers.

    """
    halves = [_renamed(model.graph, prefix) for model, prefix in ((first, "first"), (second, "second"))]
    nodes = [node for half, _ in halves for node in half]
    for prefix in ("first", "second"):
        nodes.append(helper.make_node("ReduceMax", [f"{prefix}/{SCORES}"], [f"{prefix}/sure"], axes=[1], keepdims=1))
        nodes.append(helper.make_node("Transpose", [f"{prefix}/sure"], [f"{prefix}/surest"], perm=[0, 2, 1]))
    nodes += [
        helper.make_node("Greater", ["first/surest", "second/surest"], ["both/first"]),
        helper.make_node("Where", ["both/first", f"first/{BOXES}", f"second/{BOXES}"], [BOXES]),
        helper.make_node("Max", [f"first/{SCORES}", f"second/{SCORES}"], [SCORES]),
    ]
    looking = {node.name for node in _before(second.graph, (BOXES, SCORES))}
    nodes += [node for node in second.graph.node if node.name not in looking]
    constants = {tensor.name: tensor for _, held in halves for tensor in held}
    constants |= {
        tensor.name: tensor for tensor in second.graph.initializer if any(tensor.name in n.input for n in nodes)
    }
    graph = helper.make_graph(nodes, "pair", second.graph.input, second.graph.output, list(constants.values()))
    model = helper.make_model(
        graph, opset_imports=second.opset_import, ir_version=second.ir_version, producer_name="examples/pair.py",
        doc_string="Two detectors in one.",
    )  # fmt: skip
    model.metadata_props.extend(second.metadata_props)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _before(graph: onnx.GraphProto, names: tuple[str, ...]) -> list[onnx.NodeProto]:
    """The nodes that make these values, in order."""
    needed, found = set(names), []
    for node in reversed(graph.node):
        if needed & set(node.output):
            needed |= set(node.input)
            found.append(node)
    return found[::-1]


def _renamed(graph: onnx.GraphProto, prefix: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """What leads to boxes and scores, with the constants it needs, under names of its own."""

    def name(old: str) -> str:
        return old if not old or old in INPUTS else f"{prefix}/{old}"

    nodes = []
    for old in _before(graph, (BOXES, SCORES)):
        node = onnx.NodeProto()
        node.CopyFrom(old)
        node.name = name(old.name)
        node.input[:], node.output[:] = map(name, old.input), map(name, old.output)
        nodes.append(node)
    used = {entry for node in nodes for entry in node.input}
    constants = []
    for old in graph.initializer:
        if name(old.name) in used:
            tensor = onnx.TensorProto()
            tensor.CopyFrom(old)
            tensor.name = name(old.name)
            constants.append(tensor)
    return nodes, constants


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs=2, type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    given.out.write_bytes(paired(*(onnx.load(path) for path in given.models)))


if __name__ == "__main__":
    main()
