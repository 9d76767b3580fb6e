import msgspec

from farshore.core import digest as digests
from farshore.core.manifest import File
from farshore.hub.records import blobs, deployments, models
from farshore.hub.records.deployments import Deployment


def test_a_row_from_birth_to_death(tx):
    digest = digests.of(b"one")
    blobs.add(tx, digest, 3, 1.0)
    model = models.add_model(tx, "m", 1.0)
    version = models.Version(0, "m", 1, digest, digest, 3, "", {}, {}, {}, [], archived=False, created=1.0)
    key = models.add_version(tx, model.id, version, b"x", {"a.onnx": File("a.onnx", digest, 3)})
    row = Deployment(0, "p", "tags.a = 1", "m@latest", "m", 1, digest, 5, 1.0, 1.0, key)
    deployments.add(tx, row)
    deployments.add(tx, msgspec.structs.replace(row, id="q"))
    first, second = deployments.every(tx)
    assert first == msgspec.structs.replace(row, serial=first.serial)
    assert second.serial > first.serial
    changed = msgspec.structs.replace(first, priority=9, selector="*", changed=7.0)
    deployments.change(tx, changed)
    assert deployments.one(tx, "p") == changed
    assert deployments.remove(tx, "q") and not deployments.remove(tx, "q")
    deployments.add(tx, msgspec.structs.replace(row, id="r"))
    assert deployments.one(tx, "r").serial > second.serial  # never given again
