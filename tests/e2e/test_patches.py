"""Patches from push to switch, between real processes."""

from __future__ import annotations

import os
import random

import pytest
from tests.e2e.conftest import HubProcess, reported, wait_for
from tests.e2e.conftest import desire as desire_now
from tests.sim.proxy import Proxy

from farshore.core import digest as digests
from farshore.store.blobs import CHUNK, Blobs
from farshore.store.slots import Slots

TALK = 32 * 1024
"""Bytes on the wire, for one connection or start, that are not the model's: headers, syncs, manifests, tickets."""


@pytest.fixture
def hub(tmp_path):
    process = HubProcess(tmp_path / "hub").start()
    yield process
    process.kill()


@pytest.fixture
def release(hub, tmp_path):
    """Push a version of a small classifier: ``release(body, head, name, moved)``; equal seeds make equal weights."""
    pytest.importorskip("onnx")
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    def tensor(seed: int, *shape: int) -> np.ndarray:
        return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)

    def release(body: int, head: int, name: str = "detector", moved: float = 0.0) -> tuple[dict, bytes]:
        kernel = tensor(body, 256, 3, 16, 16) + moved * tensor(99, 256, 3, 16, 16)
        graph = helper.make_graph(
            [
                helper.make_node("Conv", ["image", "kernel"], ["c"]),
                helper.make_node("GlobalAveragePool", ["c"], ["pooled"]),
                helper.make_node("Flatten", ["pooled"], ["flat"]),
                helper.make_node("Gemm", ["flat", "weights"], ["wide"], transB=1),
                helper.make_node("Gemm", ["wide", "last"], ["logits"], transB=1),
                helper.make_node("Softmax", ["logits"], ["scores"]),
            ],
            "classifier",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 16, 16])],
            [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 3])],
            [
                numpy_helper.from_array(kernel.astype(np.float32), "kernel"),
                numpy_helper.from_array(tensor(1000 + head, 400, 256), "weights"),
                numpy_helper.from_array(tensor(5, 3, 400), "last"),
            ],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        data = model.SerializeToString()
        folder = tmp_path / f"push-{len(list(tmp_path.glob('push-*')))}"
        folder.mkdir()
        (folder / "net.onnx").write_bytes(data)
        (folder / "labels.txt").write_text("ship\nbuoy\nturbine\n")
        return hub.client().push(name, [folder], overrides="[input]\nmean = 127.5\nstd = 127.5\n"), data

    return release


@pytest.fixture
def wire(hub):
    with Proxy(hub.port) as proxy:
        yield proxy


def desire(hub, device: str, version: dict) -> None:
    wait_for(lambda: device in {one["id"] for one in hub.client().devices()}, "enrolment")
    desire_now(hub, device, version)


def patches(hub, version: dict) -> list[dict]:
    return hub.client().patches(f"{version['model']}@{version['version']}")


def runs(hub, agent, version: dict) -> None:
    def so() -> bool:
        return reported(hub, agent.name, version["model"]).get("current", {}).get("digest") == version["digest"]

    wait_for(so, f"{version['model']}@{version['version']} runs", agent)


def held(agent, data: bytes) -> bool:
    """Whether the device holds exactly these bytes, in its blobs and in what it serves."""
    blobs = Blobs(agent.root / "blobs")
    return blobs.has(digests.of(data)) and blobs.path(digests.of(data)).read_bytes() == data


def served(agent, version: dict) -> bytes:
    slots = Slots(agent.root)
    current = slots.current(version["model"])
    assert current.digest == version["digest"]
    slots.verify(current)
    return current.file("net.onnx").read_bytes()


def test_the_second_version_costs_its_patch(hub, make_agent, release, wire):
    (first, old), (second, new) = release(1, 1), release(1, 1, moved=0.0001)
    agent = make_agent(wire.url)
    desire(hub, agent.name, first)
    runs(hub, agent, first)
    before = wire.down
    hub.client().put_deployment("prod", model="detector@2", selector="*")
    desire(hub, agent.name, second)
    runs(hub, agent, second)
    [patch] = [one for one in patches(hub, second) if one["bases"]]
    assert patch["bases"][0]["digest"] == digests.of(old)
    assert patch["size"] < 0.7 * len(new)
    assert wire.down - before <= patch["size"] + TALK
    assert served(agent, second) == new
    assert held(agent, new)
    assert digests.parse(patch["digest"]) not in Blobs(agent.root / "blobs").digests()


def test_two_other_models_are_what_a_new_one_is_made_of(hub, make_agent, release, wire):
    (birds, _), (insects, _) = release(1, 1, "birds"), release(2, 2, "insects")
    both, wanted = release(1, 2, "both")
    agent = make_agent(wire.url)
    hub.client().put_deployment("a", model="birds", selector="*")
    hub.client().put_deployment("b", model="insects", selector="*")
    runs(hub, agent, birds)
    runs(hub, agent, insects)
    before = wire.down
    hub.client().put_deployment("c", model="both", selector="*")
    runs(hub, agent, both)
    assert wire.down - before < TALK + 0.05 * len(wanted)
    assert served(agent, both) == wanted
    [patch] = patches(hub, both)
    assert {base["model"] for base in patch["bases"]} == {"birds", "insects"}


@pytest.mark.parametrize("how", ["flipped", "gone", pytest.param("other bytes", marks=pytest.mark.deep)])
def test_a_patch_gone_bad_in_the_store_costs_only_itself(hub, make_agent, release, wire, how):
    (first, _), (second, new) = release(1, 1), release(1, 1, moved=0.0001)
    agent = make_agent(wire.url)
    desire(hub, agent.name, first)
    runs(hub, agent, first)
    hub.client().put_deployment("later", model="detector@2", selector="tags.never = 'set'")  # from now on it is built
    wait_for(lambda: patches(hub, second), "a patch", hub)
    [patch] = patches(hub, second)
    spoil(hub.data / "objects", patch, how)
    before = wire.down
    desire(hub, agent.name, second)
    runs(hub, agent, second)
    assert served(agent, second) == new
    assert wire.down - before <= len(new) + patch["size"] + TALK


def spoil(objects, patch: dict, how: str) -> None:
    [path] = objects.rglob(digests.hex_of(patch["digest"]))
    if how == "gone":
        path.unlink()
        return
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    if how == "flipped":
        data[len(data) // 2] ^= 4
    else:
        data[:] = os.urandom(len(data))
    path.write_bytes(data)


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.deep) for n in range(1, 10))])
def test_killed_in_the_middle_of_a_patch(hub, make_agent, release, wire, seed):
    """Cut off while it fetches, and killed while it fetches and applies: in the end the right file, hardly a byte twice."""
    chance = random.Random(seed)
    (first, _), (second, new) = release(1, 1), release(1, 1, moved=0.0001)
    agent = make_agent(wire.url, "--rate", "400kB")
    desire(hub, agent.name, first)
    runs(hub, agent, first)
    before, cuts = wire.down, 0
    desire(hub, agent.name, second)
    partial = agent.root / "blobs" / "partial"
    for share in sorted(chance.random() for _ in range(3)):
        wait_for(
            lambda share=share: (
                any(one.stat().st_size >= share * 250_000 for one in partial.glob("*.part")) or held(agent, new)
            ),
            "the patch arrives",
            agent,
        )
        agent.kill()
        cuts += 1
        assert served(agent, first)
        agent.start()
    runs(hub, agent, second)
    [patch] = [one for one in patches(hub, second) if one["bases"]]
    assert served(agent, second) == new
    assert wire.down - before <= patch["size"] + cuts * (2 * CHUNK + TALK) + TALK


def test_a_hub_killed_while_it_builds_is_asked_again(hub, make_agent, release, wire):
    (first, _), (second, new) = release(1, 1), release(1, 1, moved=0.0001)
    agent = make_agent(wire.url)
    desire(hub, agent.name, first)
    runs(hub, agent, first)
    before = wire.down
    desire(hub, agent.name, second)
    spool = hub.data / "spool"
    wait_for(lambda: any(spool.iterdir()) or held(agent, new), "a patch is begun", agent)
    hub.kill()
    hub.start()
    runs(hub, agent, second)
    assert served(agent, second) == new
    assert wire.down - before < len(new)
    assert not [path for path in spool.iterdir() if path.is_file()]
