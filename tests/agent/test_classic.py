"""The classic contract: a ZIP in Blob Storage (Azurite), an IoT Hub in memory, and a whole agent between them."""

from __future__ import annotations

import base64
import hashlib
import io
import random
import uuid
import zipfile
from functools import partial

import pytest
import urllib3
from tests.azurite import Azurite
from tests.sim.azure import MODULE
from tests.sim.clock import VirtualClock
from tests.sim.iothub import SimIotHub, SimLine

from farshore.agent import classic, identity, loop
from farshore.agent.classic import ClassicLink
from farshore.agent.settings import Settings
from farshore.core.errors import Denied, Invalid
from farshore.core.wire import SyncRequest
from farshore.store.objects import Objects
from farshore.store.slots import Slots

LABELS = "ship\nbuoy\nturbine\n"
OVERRIDES = "[input]\nmean = 127.5\nstd = 127.5\n"


@pytest.fixture(scope="module")
def model():
    onnx = pytest.importorskip("onnx")
    import numpy as np

    def make(seed: int, size: int = 50_000) -> bytes:
        chance = np.random.default_rng(seed)
        helper, kind = onnx.helper, onnx.TensorProto.FLOAT
        tensors = [
            onnx.numpy_helper.from_array(chance.standard_normal((3, 3)).astype(np.float32), "weights"),
            onnx.numpy_helper.from_array(chance.integers(0, 256, size, dtype=np.uint8), "ballast"),
        ]
        nodes = [
            helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["flat"]),
            helper.make_node("Gemm", ["flat", "weights"], ["logits"], transB=1),
            helper.make_node("Softmax", ["logits"], ["scores"]),
        ]
        graph = helper.make_graph(
            nodes, "classifier", [helper.make_tensor_value_info("image", kind, [1, 3, 16, 16])],
            [helper.make_tensor_value_info("scores", kind, [1, 3])], tensors,
        )  # fmt: skip
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return made.SerializeToString()

    return make


def bundle(**members: bytes | str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in members.items():
            archive.writestr(name.replace("_", "."), data)
    return out.getvalue()


@pytest.fixture(scope="module")
def azurite(tmp_path_factory):
    with Azurite(tmp_path_factory.mktemp("azurite")) as found:
        yield found


class World:
    def __init__(self, container, root):
        self.store, self.iothub, self.root = Objects.open(container), SimIotHub(), root
        self.iothub.put_module("d", MODULE)
        self.clock = VirtualClock()
        self.start()

    def start(self, **more):
        self.settings = Settings(
            root=self.root, link="azure", hub="https://h.example", classic="detector", serve="none", keep_free=0, trial=0.0, poll=1.0, **more,
        )  # fmt: skip
        self.link = ClassicLink("h.example", "d", partial(SimLine, self.iothub, "d", MODULE), self.settings, self.clock)
        who = identity.enrol(self.settings, "", "d", self.link)
        self.agent = loop.build(self.settings, who, self.link, self.clock, random.Random(1))
        self.agent.start("boot")

    def put(self, name, data, seconds=600):
        self.store.write(f"classic/{name}", data)
        return self.store.address(f"classic/{name}", seconds)

    def want(self, name, data, *, url=None, md5=None):
        digest = base64.b64encode(hashlib.md5(data).digest()).decode()
        desired = {"FileName": name, "DownloadUrl": url or self.put(name, data), "ContentMD5": md5 or digest}
        self.iothub.patch_twin("d", MODULE, {"properties": {"desired": desired}})

    def settle(self):
        quiet = 0
        for _ in range(300):
            quiet = 0 if self.agent.turn(hold=False) else quiet + 1
            self.clock.sleep(40)
            if quiet == 4:
                return

    @property
    def runs(self):
        found = Slots(self.root).current("detector")
        return None if found is None else found.version

    @property
    def says(self):
        return self.iothub.modules["d", MODULE].reported.values


@pytest.fixture
def world(azurite, tmp_path, monkeypatch):
    for name, value in azurite.environment.items():
        monkeypatch.setenv(name, value)
    return World(azurite.container(f"c{uuid.uuid4().hex}"), tmp_path / "d")


@pytest.fixture
def good(model):
    return lambda seed, **more: bundle(net_onnx=model(seed, **more), labels_txt=LABELS, farshore_toml=OVERRIDES)


def test_a_zip_becomes_a_version_and_is_named_in_the_report(world, good):
    world.want("first.zip", good(1))
    world.settle()
    assert world.runs == 1
    assert world.says["LatestAIModelFileName"] == "first.zip"
    assert world.says["models"]["detector"]["current"]["version"] == 1
    world.want("second.zip", good(2))
    world.settle()
    assert world.runs == 2
    assert world.says["LatestAIModelFileName"] == "second.zip"
    kept = [path.name for path in (world.root / "agent" / "classic").rglob("*") if path.is_file()]
    assert not [
        name for name in kept if name.endswith(".zip") or len(name) == 64
    ]  # installed: nothing lies there twice


def test_over_a_restart_nothing_is_fetched_again(world, good):
    world.want("first.zip", good(1))
    world.settle()
    seq = world.link._own.state.signed
    world.start()
    world.settle()
    assert (world.runs, world.link._own.state.signed) == (1, seq)


def test_a_download_goes_on_where_it_was(world, good, monkeypatch):
    data = good(1, size=3_000_000)
    world.want("first.zip", data)
    wish = classic.Wish(
        "first.zip", world.put("first.zip", data), base64.b64encode(hashlib.md5(data).digest()).decode()
    )
    world.link._part(wish).write_bytes(data[:2_000_000])
    starts, fetch = [], world.link._store.fetch
    monkeypatch.setattr(world.link._store, "fetch", lambda url, start: starts.append(start) or fetch(url, start))
    world.settle()
    assert starts == [2_000_000]
    assert world.runs == 1


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda data, _model: {"data": data, "md5": "A" * 22 + "=="}, "MD5"),
        (lambda _data, _model: {"data": b"PK no zip at all"}, "ZIP"),
        (lambda _data, model: {"data": bundle(a_onnx=model(3), b_onnx=model(4))}, "exactly one"),
        (lambda _data, _model: {"data": bundle(a_onnx=b"noise" * 100)}, ""),
        (lambda _data, _model: {"data": bundle(a_onnx=b"")}, "empty"),
        (lambda data, _model: {"data": data, "md5": "short"}, "ContentMD5"),
        (lambda data, _model: {"data": data, "url": "file:///etc/passwd"}, "DownloadUrl"),
        (lambda data, _model: {"data": data, "url": "http://elsewhere.example/x.zip"}, "plain HTTP"),
    ],
)
def test_what_is_wrong_is_said_and_what_runs_goes_on(world, good, model, spoil, says):
    world.want("first.zip", good(1))
    world.settle()
    world.want("bad.zip", **spoil(good(2), model))
    world.settle()
    assert world.runs == 1
    assert says in world.says["LastError"]
    assert world.says["LatestAIModelFileName"] == "first.zip"
    world.want("third.zip", good(3))
    world.settle()
    assert world.runs == 2
    assert "LastError" not in world.says


def test_an_address_that_ran_out_waits_for_another(world, good):
    data = good(1)
    url = world.put("first.zip", data, seconds=1)
    while urllib3.request("GET", url).status != 403:
        pass
    world.want("first.zip", data, url=url)
    world.settle()
    assert world.runs is None
    assert "403" in world.says["LastError"]
    world.want("first.zip", data)
    world.settle()
    assert world.runs == 1


def test_outside_its_windows_nothing_is_fetched(world, good):
    world.link.close()
    world.start(windows=("03:00-04:00Z",))
    world.want("first.zip", good(1))
    world.clock.jump(-(world.clock.now() % 86400) + 86400 + 12 * 3600)
    world.link.sync(SyncRequest())
    assert not list((world.root / "agent" / "classic").glob("*.zip"))
    world.clock.jump(15.5 * 3600)
    world.link.sync(SyncRequest())
    assert world.link._own.state.version == 1


def test_the_device_s_own_word_counts_on_no_other(world, good, tmp_path, azurite):
    world.want("first.zip", good(1))
    world.settle()
    other = World(azurite.container(f"c{uuid.uuid4().hex}"), tmp_path / "e")
    news = world.link._own.news(SyncRequest(nonce="n" * 16), world.clock.now())
    with pytest.raises(Denied):
        other.agent._site.trust.hear("n" * 16, news, world.link._own.desired(), ["detector"])


def test_what_is_kept_and_damaged_is_named(world, good):
    (world.root / "agent" / "classic" / "state.json").write_bytes(b"{")
    with pytest.raises(Invalid, match="delete it"):
        world.start()
