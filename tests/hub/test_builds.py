"""Patches: when they are built, kept, offered and collected. Real files, real builder processes."""

import signal
import threading
import time
from concurrent.futures import wait

import numpy as np
import pytest

from farshore import delta
from farshore.core import digest as digests
from farshore.core.errors import Corrupt, NotFound
from farshore.hub import builds
from farshore.hub.builds import candidates, worth_keeping
from farshore.hub.records.patches import Place

PATIENCE = 120


@pytest.fixture
def make_model():
    """A classifier of some 40 kB: ``make(body=1, head=1, moved=0.0)``; equal seeds make equal weights."""
    pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    def make(body=1, head=1, moved=0.0):
        kernel = np.random.default_rng(body).standard_normal((64, 3, 7, 7)).astype(np.float32)
        kernel += (np.random.default_rng(9).standard_normal(kernel.shape) * moved).astype(np.float32)
        weights = np.random.default_rng(1000 + head).standard_normal((3, 64)).astype(np.float32)
        graph = helper.make_graph(
            [
                helper.make_node("Conv", ["image", "kernel"], ["c"]),
                helper.make_node("GlobalAveragePool", ["c"], ["pooled"]),
                helper.make_node("Flatten", ["pooled"], ["flat"]),
                helper.make_node("Gemm", ["flat", "weights"], ["logits"], transB=1),
                helper.make_node("Softmax", ["logits"], ["scores"]),
            ],
            "classifier",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 16, 16])],
            [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 3])],
            [numpy_helper.from_array(kernel, "kernel"), numpy_helper.from_array(weights, "weights")],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()

    return make


@pytest.fixture
def push(operator):
    def push(data, name="detector"):
        files = {"net.onnx": data, "labels.txt": b"ship\nbuoy\nturbine\n"}
        return operator.push(name, files, overrides="[input]\nmean = 127.5\nstd = 127.5\n")

    return push


@pytest.fixture
def device(operator, push):
    """A device, and what makes it want a version."""
    found = operator.enrolled("turbine-7")

    def want(version):
        operator.ask(
            "PUT", f"/v1/deployments/{version['model']}",
            json={"model": f"{version['model']}@{version['version']}", "selector": "*"},
        )  # fmt: skip
        found.sync(seen=0)

    found.want = want
    return found


def fetched(device, route):
    answer = device.client.get(route["url"])
    assert answer.status_code == 200, answer.text
    assert digests.of(answer.content) == route["digest"]
    assert len(answer.content) == route["size"]
    return answer.content


def reports(device, version):
    device.sync(
        seen=0, reported={"models": {version["model"]: {"current": {k: version[k] for k in ("version", "digest")}}}}
    )


def test_a_device_that_holds_the_old_is_offered_a_patch(device, push, make_model):
    old, new = make_model(), make_model(moved=0.001)
    push(old)
    device.want(push(new))
    reply = device.ticket(digests.of(new), have=[digests.of(old)])
    patch, whole = reply["routes"]
    assert (patch["kind"], patch["bases"]) == ("patch", [digests.of(old)])
    assert whole["digest"] == digests.of(new)
    assert whole.get("kind", "whole") == "whole"
    assert patch["size"] < 0.9 * whole["size"] == 0.9 * len(new)
    assert b"".join(delta.decode(fetched(device, patch), [old])) == new
    assert fetched(device, whole) == new


def test_who_holds_nothing_of_it_is_offered_its_smallest_form(device, push, make_model):
    wanted = make_model(moved=0.001)
    wanted = wanted.replace(wanted[1000:21_000], b"\0" * 20_000)
    device.want(push(wanted))
    patch, whole = device.ticket(digests.of(wanted), have=[digests.of(b"unknown")])["routes"]
    assert patch["kind"] == "patch"
    assert patch.get("bases", []) == []
    assert patch["size"] < 0.6 * whole["size"]
    assert b"".join(delta.decode(fetched(device, patch), [])) == wanted


def test_two_other_models_are_bases_together(device, push, make_model):
    backbone, head = make_model(body=1, head=1), make_model(body=2, head=2)
    push(backbone, "birds")
    push(head, "insects")
    push(make_model(body=7, head=7), "strangers")
    wanted = make_model(body=1, head=2)
    device.want(push(wanted, "both"))
    have = [digests.of(make_model(body=7, head=7)), digests.of(backbone), digests.of(head)]
    patch, _ = device.ticket(digests.of(wanted), have=have)["routes"]
    assert patch["bases"][0] == digests.of(backbone)
    assert digests.of(make_model(body=7, head=7)) not in patch["bases"]
    assert patch["size"] < 2000
    assert b"".join(delta.decode(fetched(device, patch), [head, backbone])) == wanted


def test_only_what_a_device_holds_is_asked_of_it(device, push, make_model):
    old, new = make_model(), make_model(moved=0.001)
    push(old)
    device.want(push(new))
    device.ticket(digests.of(new), have=[digests.of(old)])
    routes = device.ticket(digests.of(new), have=[])["routes"]
    assert all(not route.get("bases") for route in routes)


def test_small_files_travel_whole_and_at_once(device, hub, push, make_model):
    push(make_model())
    device.want(push(make_model(moved=0.001)))
    [route] = device.ticket(digests.of(b"ship\nbuoy\nturbine\n"), have=[])["routes"]
    assert route.get("kind", "whole") == "whole"


def test_deployments_are_foreseen_from_what_devices_run(device, operator, hub, push, make_model):
    first = push(make_model())
    reports(device, first)
    new = push(make_model(moved=0.001))
    device.want(new)
    wait([*hub.builds._running.values()], PATIENCE)
    [patch] = operator.get("/v1/models/detector/versions/2/patches")
    assert (patch["path"], patch["whole"]) == ("net.onnx", len(make_model(moved=0.001)))
    [base] = patch["bases"]
    assert (base["model"], base["version"], base["path"]) == ("detector", 1, "net.onnx")
    assert operator.get("/v1/models/detector/versions/1/patches") == []


def test_a_diff_says_what_each_tensor_takes(device, operator, push, make_model):
    old, new = make_model(), make_model(moved=0.001)
    push(old)
    device.want(push(new))

    def patch():
        return operator.get("/v1/models/detector/diff", params={"from": "1", "to": "2"})["variants"][0].get("patch")

    assert patch() is None
    size = device.ticket(digests.of(new), have=[digests.of(old)])["routes"][0]["size"]
    found = patch()
    assert (found["size"], found["whole"], found["based"], found["exact"]) == (size, len(new), True, True)
    assert found["tensors"]["kernel"] > 0.9 * size
    assert found["tensors"].get("weights", 0) < 0.1 * size
    assert sum(found["tensors"].values()) + found["rest"] == pytest.approx(size, abs=5)


def test_what_is_not_worth_it_is_not_kept_and_not_tried_again(device, hub, push, make_model, monkeypatch):
    monkeypatch.setattr(builds, "WORTH", 0.0001)
    old, new = make_model(), make_model(moved=0.5)
    push(old)
    device.want(push(new))
    assert len(device.ticket(digests.of(new), have=[digests.of(old)])["routes"]) == 1
    monkeypatch.setattr(hub.builds, "_run", lambda job: pytest.fail("built again"))
    hub.builds._settled.clear()
    assert hub.builds.ask(digests.of(new), [digests.of(old)]).result(PATIENCE) is None
    assert len(device.ticket(digests.of(new), have=[digests.of(old)])["routes"]) == 1


def test_a_deleted_version_takes_its_patches_along(device, operator, hub, push, make_model):
    old, new = make_model(), make_model(moved=0.001)
    push(old)
    device.want(push(new))
    patch = device.ticket(digests.of(new), have=[digests.of(old)])["routes"][0]
    operator.ask("DELETE", "/v1/models/detector/versions/1")
    assert operator.get("/v1/models/detector/versions/2/patches") == []
    with pytest.raises(NotFound):
        hub.registry.blob_size(patch["digest"])
    with pytest.raises(NotFound):
        hub.registry.objects.size(patch["digest"])
    routes = device.ticket(digests.of(new), have=[digests.of(old)])["routes"]
    assert not any(route.get("bases") for route in routes)


def test_a_patch_that_the_store_has_lost_is_built_again(device, hub, push, make_model):
    old, new = make_model(), make_model(moved=0.001)
    push(old)
    device.want(push(new))
    patch = device.ticket(digests.of(new), have=[digests.of(old)])["routes"][0]
    hub.registry.objects.remove(patch["digest"])
    assert device.client.get(patch["url"]).status_code == 404
    again = device.ticket(digests.of(new), have=[digests.of(old)])["routes"][0]
    assert again["digest"] == patch["digest"]
    assert b"".join(delta.decode(fetched(device, again), [old])) == new


def damaged(hub, digest):
    """The store's disk has lost a bit."""
    with hub.registry.objects.local(digest, hub.registry.spool) as path:
        data = bytearray(path.read_bytes())
        path.chmod(0o644)
        data[len(data) // 2] ^= 1
        path.write_bytes(data)


def test_a_patch_gone_bad_in_the_store_is_built_again_when_a_device_says_so(device, hub, push, make_model):
    old, new = make_model(), make_model(moved=0.001)
    push(old)
    device.want(push(new))
    patch = device.ticket(digests.of(new), have=[digests.of(old)])["routes"][0]
    damaged(hub, patch["digest"])
    with pytest.raises(Corrupt):
        b"".join(delta.decode(device.client.get(patch["url"]).content, [old]))
    again = device.ticket(digests.of(new), have=[digests.of(old)], wrong=[patch["digest"]])["routes"][0]
    assert again["digest"] == patch["digest"]
    assert b"".join(delta.decode(fetched(device, again), [old])) == new


def test_a_sound_patch_is_kept_whatever_a_device_says(device, hub, push, make_model, monkeypatch, clock):
    old, new = make_model(), make_model(moved=0.001)
    push(old)
    device.want(push(new))
    patch = device.ticket(digests.of(new), have=[digests.of(old)])["routes"][0]
    looked = []
    chunks = hub.registry.objects.chunks
    monkeypatch.setattr(hub.registry.objects, "chunks", lambda digest: looked.append(digest) or chunks(digest))
    monkeypatch.setattr(hub.builds, "_run", lambda job: pytest.fail("built again"))
    wrong = [patch["digest"], digests.of(new), digests.of(b"no patch at all")]
    for _ in range(5):
        [first, *_] = device.ticket(digests.of(new), have=[digests.of(old)], wrong=wrong)["routes"]
        assert first["digest"] == patch["digest"]
    assert looked == [patch["digest"]]  # once in a while, and patches alone


def test_a_builder_that_crashes_harms_nobody(device, hub, push, make_model, monkeypatch):
    old, new = make_model(), make_model(moved=0.001)
    push(old)
    device.want(push(new))
    real = builds.subprocess.Popen

    def killed(*arguments, **more):
        child = real(*arguments, **more)
        child.send_signal(signal.SIGKILL)
        return child

    monkeypatch.setattr(builds.subprocess, "Popen", killed)
    [whole] = device.ticket(digests.of(new), have=[digests.of(old)])["routes"]
    assert fetched(device, whole) == new
    assert not [path for path in hub.registry.spool.iterdir() if path.is_file()]


@pytest.fixture
def moving(operator_of, make_model):
    """A hub with settings changed, where a device should go from one file to another: ``(hub, device, old, new)``."""

    def start(**changes):
        operator = operator_of(**changes)
        device = operator.enrolled("turbine-7")
        old, new = make_model(), make_model(moved=0.001)
        for data in (old, new):
            files = {"net.onnx": data, "labels.txt": b"ship\nbuoy\nturbine\n"}
            operator.push("detector", files, overrides="[input]\nmean = 127.5\nstd = 127.5\n")
        operator.ask("PUT", "/v1/deployments/d", json={"model": "detector@2", "selector": "*"})
        device.sync(seen=0)
        return operator.client.app.hub, device, old, new

    return start


@pytest.mark.parametrize("changes", [{"builders": 0}, {"max_patched": 10_000}, {"patch_memory": 64 << 20}])
def test_without_leave_to_build_all_travels_whole(moving, changes):
    _, device, old, new = moving(**changes)
    [whole] = device.ticket(digests.of(new), have=[digests.of(old)])["routes"]
    assert fetched(device, whole) == new


def test_nobody_waits_longer_than_told(moving, monkeypatch):
    go, real = threading.Event(), builds.Builds._run
    monkeypatch.setattr(builds.Builds, "_run", lambda self, job: go.wait(PATIENCE) and real(self, job))
    hub, device, old, new = moving(patch_wait=0.05)
    assert len(device.ticket(digests.of(new), have=[digests.of(old)])["routes"]) == 1
    go.set()
    wait([*hub.builds._running.values()], PATIENCE)
    assert len(device.ticket(digests.of(new), have=[digests.of(old)])["routes"]) == 2


def test_closing_ends_what_is_built(device, hub, push, make_model, monkeypatch):
    old, new = make_model(), make_model(moved=0.001)
    push(old)
    device.want(push(new))
    real = builds.subprocess.Popen
    children = []

    def stopped(*arguments, **more):
        children.append(real(*arguments, **more))
        children[-1].send_signal(signal.SIGSTOP)
        return children[-1]

    monkeypatch.setattr(builds.subprocess, "Popen", stopped)
    begun = hub.builds.ask(digests.of(new), [digests.of(old)])
    while not children:
        time.sleep(0.01)
    hub.builds.close()
    assert begun.done()
    assert children[0].poll() is not None
    assert hub.builds.ask(digests.of(new), [digests.of(old)]) is None


@pytest.mark.parametrize(
    ("size", "others", "kept"),
    [(899, [], True), (900, [], False), (500, [600], True), (500, [505], False), (500, [499], False)],
)
def test_what_is_worth_keeping(size, others, kept):
    assert worth_keeping(size, 1000, others) is kept


def place(model, version, path="net.onnx", role="model"):
    return Place(model, version, path, role, digests.of(f"{model}{version}{path}".encode()), 10_000)


def test_candidates_are_few_and_the_likeliest_come_first():
    target = place("detector", 9)
    held = [place("detector", number) for number in (8, 7, 6, 5, 4)]
    mine = [place("detector", 8, "net.tflite"), *held]
    others = [place("birds", number) for number in range(9, 1, -1)]
    texts = [place("detector", 8, "labels.txt", "labels")]
    near, far = candidates(target.digest, [target, *mine, *others, *texts])
    assert near == [one.digest for one in held[: builds.NEAR]]
    assert far == [one.digest for one in others[: builds.FAR]]
    assert candidates(target.digest, [target]) == ([], [])
    assert candidates(target.digest, []) == ([], [])


def with_weights_beside(data):
    """A model with its weights in a file beside it, as onnx itself writes them."""
    from onnx import external_data_helper, load_model_from_string

    model = load_model_from_string(data)
    outside = b""
    for tensor in model.graph.initializer:
        raw = tensor.raw_data
        external_data_helper.set_external_data(tensor, "net.data", offset=len(outside), length=len(raw))
        tensor.ClearField("raw_data")
        outside += raw
    return model.SerializeToString(), outside


def test_external_data_is_patched_like_weights_inside(operator, device, make_model):
    sizes = {}
    for name in ("inside", "beside"):
        pushed = []
        for moved in (0.0, 0.001):
            data = make_model(moved=moved)
            model, outside = with_weights_beside(data) if name == "beside" else (data, None)
            files = {"net.onnx": model, "labels.txt": b"ship\nbuoy\nturbine\n"}
            files |= {"net.data": outside} if outside else {}
            version = operator.push(name, files, overrides="[input]\nmean = 127.5\nstd = 127.5\n")
            pushed.append(outside or model)
        device.want(version)
        old, new = pushed
        patch, whole = device.ticket(digests.of(new), have=[digests.of(old)])["routes"]
        assert (patch["bases"], whole["size"]) == ([digests.of(old)], len(new))
        assert b"".join(delta.decode(fetched(device, patch), [old])) == new
        sizes[name] = patch["size"]
    as_bytes = sum(map(len, delta.encode(new, [old])))
    assert sizes["beside"] < 1.02 * sizes["inside"] < 0.9 * as_bytes
