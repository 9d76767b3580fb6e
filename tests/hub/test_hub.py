import asyncio
import threading

import anyio
import pytest

from farshore.core.errors import Conflict, Invalid
from farshore.hub.hub import Hub
from farshore.hub.settings import Settings


def test_a_folder_has_one_hub(settings):
    first = Hub(settings)
    with pytest.raises(Conflict, match="another hub"):
        Hub(settings)
    first.close()
    first.close()
    Hub(settings).close()


def test_keys_stay_the_same_and_are_never_guessed_at(settings):
    first = Hub(settings)
    keys, roots = first.director.online, first.director.roots()
    first.close()
    again = Hub(settings)
    assert (again.director.online, again.director.roots()) == (keys, roots)
    again.close()
    path = settings.data / "keys" / "director.key"
    right = path.read_bytes()
    path.write_bytes(b"short")
    with pytest.raises(Invalid, match=r"director\.key"):
        Hub(settings)
    path.write_bytes(right)
    Hub(settings).close()  # a failed start let go of the folder


def test_a_lost_key_is_not_replaced_when_devices_believe_it(settings, operator, pushed):
    pushed()
    operator.client.app.hub.close()
    (settings.data / "keys" / "snapshot.key").unlink()
    with pytest.raises(Invalid, match="backup"):
        Hub(settings)


def test_leftovers_of_uploads_are_swept(settings):
    Hub(settings).close()
    leftover = settings.data / "spool" / ".tmp-0123"
    leftover.write_bytes(b"half")
    Hub(settings).close()
    assert not leftover.exists()


def test_tidying_forgets_what_is_old(operator, hub, clock):
    operator.ask("POST", "/v1/enrolments", json={})
    hub.tidy()
    assert len(operator.get("/v1/enrolments")) == 1
    clock.now += 60 * 24 * 3600
    hub.tidy()
    assert operator.get("/v1/enrolments") == []


def test_objects_may_be_elsewhere(tmp_path, settings):
    hub = Hub(Settings(data=tmp_path / "hub", store=(tmp_path / "elsewhere").as_uri()))
    digest = hub.registry.add_bytes(b"data")
    assert b"".join(hub.registry.objects.chunks(digest)) == b"data"
    assert [path.read_bytes() for path in (tmp_path / "elsewhere").rglob("*") if path.is_file()] == [b"data"]
    hub.close()


def test_a_store_that_is_no_folder_does_the_whole_walk(operator_of, settings, make_onnx):
    operator = operator_of(store="memory:///")
    files = {"net.onnx": make_onnx(1), "labels.txt": b"a\nb\nc\n"}
    for seed in (1, 2):
        operator.push("m", {**files, "net.onnx": make_onnx(seed)}, overrides="[input]\nmean = 0\nstd = 255\n")
    part = operator.ask("GET", "/v1/models/m/versions/2/files/net.onnx", headers={"Range": "bytes=3-"}, status=206)
    assert part.content == make_onnx(2)[3:]
    [variant] = operator.get("/v1/models/m/diff", params={"from": "1", "to": "2"})["variants"]
    assert variant["counts"]["changed"] == 1
    operator.ask("DELETE", "/v1/models/m/versions/2")
    assert list((settings.data / "spool").iterdir()) == []
    assert not (settings.data / "objects").exists()


def test_pushes_under_way_keep_no_device_from_syncing(settings):
    """As many long pieces of work as one likes leave threads for the short ones."""
    hub, stop = Hub(settings), threading.Event()

    async def walk():
        pushes = [asyncio.create_task(hub.long_work(stop.wait, 30)) for _ in range(50)]
        await asyncio.sleep(0.05)
        with anyio.fail_after(10):
            found = await hub.threads(lambda: "synced")
        stop.set()
        assert all(await asyncio.gather(*pushes))
        return found

    assert asyncio.run(walk()) == "synced"
    hub.close()
