"""A version is tried out beside the hub, by the inference server as devices have it."""

import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("PIL")

import io

from PIL import Image

from farshore.hub import tryouts


@pytest.fixture
def picture():
    out = io.BytesIO()
    Image.new("RGB", (40, 30), (200, 30, 30)).save(out, "PNG")
    return out.getvalue()


def test_a_picture_is_answered_and_the_server_stays_up_for_the_next(operator, hub, pushed, picture):
    pushed()
    told = operator.ask("POST", "/v1/models/detector/versions/1/try", content=picture).json()
    assert (told["model"], told["version"]) == ("detector", 1)
    assert {one["class"] for one in told["classes"]} == {"ship", "buoy", "turbine"}
    first = hub.tryouts._server.process
    operator.ask("POST", "/v1/models/detector/versions/latest/try?threshold=0", content=picture)
    assert hub.tryouts._server.process is first
    lines = [one["action"] for one in operator.get("/v1/audit")]
    assert not any("try" in action for action in lines)

    hub.tryouts.rest()
    assert first.poll() is None
    hub.tryouts._server.asked -= tryouts.IDLE_SECONDS
    hub.tryouts.rest()
    assert first.poll() is not None and not any((hub.settings.data / "tryouts").glob("*"))


def test_another_version_takes_its_place(operator, hub, pushed, picture):
    pushed(), pushed(seed=2)
    operator.ask("POST", "/v1/models/detector/versions/1/try", content=picture)
    first = hub.tryouts._server.process
    assert operator.ask("POST", "/v1/models/detector/versions/2/try", content=picture).json()["version"] == 2
    assert first.poll() is not None
    hub.tryouts.close()
    assert hub.tryouts._server is None


def test_what_is_no_picture_is_said_by_the_server(operator, pushed):
    pushed()
    told = operator.ask("POST", "/v1/models/detector/versions/1/try", content=b"no picture", status=400).json()
    assert told["error"]["code"] == "invalid" and "picture" in told["error"]["message"]


def test_the_hubs_folder_may_lie_deep(operator, hub, pushed, picture, tmp_path):
    """Deeper than the path of a socket may be long."""
    pushed()
    hub.tryouts._folder = tmp_path / "deep" / ("and-deeper-" * 10)
    assert operator.ask("POST", "/v1/models/detector/versions/1/try", content=picture).json()["version"] == 1


def test_without_a_runtime_it_says_how_to_get_one(operator, hub, pushed, picture, monkeypatch):
    pushed()
    monkeypatch.setattr(type(hub.tryouts), "runtimes", staticmethod(lambda: ()))
    told = operator.ask("POST", "/v1/models/detector/versions/1/try", content=picture, status=503).json()
    assert "pip install" in told["error"]["message"]
    monkeypatch.setattr(type(hub.tryouts), "runtimes", staticmethod(lambda: ("litert",)))
    told = operator.ask("POST", "/v1/models/detector/versions/1/try", content=picture, status=400).json()
    assert "no variant" in told["error"]["message"]


def test_a_server_that_does_not_come_up_says_why_and_leaves_nothing(operator, hub, pushed, picture, monkeypatch):
    pushed()
    monkeypatch.setattr(tryouts.sys, "executable", "/bin/false")
    operator.ask("POST", "/v1/models/detector/versions/1/try", content=picture, status=503)
    assert hub.tryouts._server is None and not list((hub.settings.data / "tryouts").glob("*/*"))


def test_the_models_process_gets_no_secret(operator, hub, pushed, picture, monkeypatch):
    monkeypatch.setenv("FARSHORE_TOKEN", "secret")
    pushed()
    operator.ask("POST", "/v1/models/detector/versions/1/try", content=picture)
    with open(f"/proc/{hub.tryouts._server.process.pid}/environ", "rb") as told:
        assert b"FARSHORE_TOKEN" not in told.read()


def test_a_push_is_recognised_before_it_is_made(operator, make_onnx):
    sent = operator.ask("POST", "/v1/blobs", content=make_onnx(1)).json()
    assert sent["size"] == len(make_onnx(1))
    files = [{"path": "net.onnx", "digest": sent["digest"]}]
    told = operator.ask("POST", "/v1/recognitions", json={"files": files}, status=400).json()
    assert "input.mean" in told["error"]["message"] or "mean" in told["error"]["message"]
    told = operator.ask(
        "POST", "/v1/recognitions", json={"files": files, "overrides": "[input]\nmean = 0\nstd = 1\n"}
    ).json()
    [variant] = told["content"]["variants"]
    assert variant["runtime"] == "onnxruntime" and told["notes"]
    assert operator.get("/v1/models")["items"] == []
