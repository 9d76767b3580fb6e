"""What is asked over HTTP, against a real server with real workers."""

from __future__ import annotations

import json

import pytest

from .conftest import Client, Device, picture, serve, shared, unzipped, yolo_model


def test_a_picture_is_answered_by_the_current_version(device: Device) -> None:
    digest = device.colours(7, activate=True)

    async def talk(client: Client) -> None:
        status, headers, body = await client.score(picture((255, 51, 0)))
        assert status == 200
        assert (body["model"], body["version"], body["digest"]) == ("colours", 7, digest)
        assert body["classes"][0] == {"class": "red7", "score": 1.0}
        assert body["classes"][1] == {"class": "green7", "score": pytest.approx(0.2, abs=0.005)}
        assert [headers[f"x-farshore-{name}"] for name in ("model", "version", "digest")] == ["colours", "7", digest]
        assert set(body["timing"]) == {"decode_ms", "infer_ms", "read_ms"}

    serve(device, talk)


def test_top_and_threshold_choose_answers(device: Device) -> None:
    device.colours(1, activate=True)

    async def talk(client: Client) -> None:
        sent = picture((255, 128, 26))
        assert [c["class"] for c in (await client.score(sent, "?top=1"))[2]["classes"]] == ["red1"]
        assert [c["class"] for c in (await client.score(sent, "?threshold=0.4"))[2]["classes"]] == ["red1", "green1"]
        for query in (
            "?top=0",
            "?top=x",
            "?threshold=2",
            "?threshold=nan",
            "?colour=1",
            "?top=1&top=2",
            "?top",
            "?%ff=1",
        ):
            status, _, body = await client.score(sent, query)
            assert (status, body["error"]["code"]) == (400, "invalid"), query

    serve(device, talk)


def test_several_models_are_chosen_by_name(device: Device) -> None:
    device.colours(1, activate=True)
    device.colours(5, model="other", activate=True)

    async def talk(client: Client) -> None:
        sent = picture((0, 0, 255))
        assert (await client.score(sent, "?model=other"))[2]["classes"][0]["class"] == "blue5"
        assert (await client.score(sent, "?model=colours"))[2]["classes"][0]["class"] == "blue1"
        status, _, body = await client.score(sent)
        assert status == 404
        assert "colours, other" in body["error"]["message"]
        assert (await client.score(sent, "?model=third"))[0] == 404
        _, _, models = await client.get("/v1/models")
        assert [model["name"] for model in models["models"]] == ["colours", "other"]

    serve(device, talk)


def test_without_a_model_it_lives_but_is_not_ready(device: Device) -> None:
    async def talk(client: Client) -> None:
        assert (await client.get("/healthz"))[::2] == (200, {"ok": True})
        assert (await client.get("/readyz"))[0] == 503
        status, headers, body = await client.score(picture((0, 0, 0)))
        assert (status, body["error"]["code"]) == (503, "unavailable")
        assert int(headers["retry-after"]) >= 1

    serve(device, talk)


def test_unknown_paths_and_methods(device: Device) -> None:
    async def talk(client: Client) -> None:
        for path in ("/index.html", "/nothing", "/score/", "/%2e%2e/score", "/v1/models/x"):
            status, _, body = await client.get(path)
            assert (status, body["error"]["code"]) == (404, "not_found")
        status, headers, _ = await client.get("/score")
        assert (status, headers["allow"]) == (405, "POST")
        assert (await client.ask("POST", "/healthz"))[0] == 405

    serve(device, talk)


def test_metrics_count_what_happened(device: Device) -> None:
    device.colours(1, activate=True)

    async def talk(client: Client) -> None:
        for _ in range(3):
            await client.score(picture((1, 2, 3)))
        await client.score(b"no picture")
        await client.score(b"")
        _, headers, page = await client.get("/metrics")
        lines = page.decode().splitlines()
        assert headers["content-type"].startswith("text/plain; version=0.0.4")
        assert 'farshore_requests_total{model="colours",status="200"} 3' in lines
        assert 'farshore_requests_total{model="colours",status="400"} 1' in lines
        assert 'farshore_rejected_total{door="http",code="invalid"} 1' in lines
        assert 'farshore_request_seconds_count{model="colours"} 4' in lines
        assert 'farshore_stage_seconds_count{model="colours",version="1",stage="infer"} 3' in lines
        memory = next(line for line in lines if line.startswith("farshore_worker_memory_bytes"))
        assert int(memory.split(" ")[1]) > 10_000_000
        for line in lines:
            assert line.startswith("# ") or line.rpartition(" ")[2].replace(".", "").isdigit(), line

    serve(device, talk)


def test_ssd_mobilenet_finds_what_is_in_the_pictures(device: Device) -> None:
    """The ZIP as it is handed over, recognised as a push would, against answers made elsewhere."""
    files = unzipped(shared("models/ssd_mobilenet_v1_coco.zip"))
    model = next(data for name, data in files.items() if name.endswith(".tflite"))
    device.recognised("detector", 1, model, {"labelmap.txt": files["labelmap.txt"]})
    expected = json.loads(shared("pictures/expected_ssd_mobilenet.json"))["answers"]

    async def talk(client: Client) -> None:
        for name, answers in expected.items():
            _, _, body = await client.score(shared(f"pictures/{name}"))
            found = [item for item in body["detections"] if item["score"] > 0.5]
            assert [item["class"] for item in found] == [item["class"] for item in answers], name
            for item, answer in zip(found, answers, strict=True):
                assert item["score"] == pytest.approx(answer["score"], abs=0.02), name
                assert item["box"] == pytest.approx(answer["box"], abs=3), name

    serve(device, talk)


def test_tiny_yolov3s_three_outputs(device: Device) -> None:
    """Boxes come in pixels of the picture sent, through ``image_shape``; only chosen ones, best first, clipped."""
    model = yolo_model(
        boxes=[[0.1, 0.2, 0.5, 0.6], [0.0, 0.0, 0.9, 0.9], [-0.1, 0.5, 0.4, 1.2]],
        scores=[[0.9, 0.1, 0.2], [0.05, 0.6, 0.7]],
        indices=[[0, 0, 0], [0, 1, 2], [-1, -1, -1]],
    )
    device.recognised("yolo", 1, model, {"coco_classes.txt": b"cup\nbottle\n"})

    async def talk(client: Client) -> None:
        _, _, body = await client.score(picture((9, 9, 9), (200, 100)))
        assert body["detections"] == [
            {"class": "cup", "score": 0.9, "box": pytest.approx([10, 40, 50, 120], abs=0.01)},
            {"class": "bottle", "score": 0.7, "box": pytest.approx([0, 100, 40, 200], abs=0.01)},
        ]

    serve(device, talk)


TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_every_answer_says_which_request_it_belongs_to(device: Device, caplog: pytest.LogCaptureFixture) -> None:
    device.colours(1, activate=True)
    caplog.set_level("INFO", "farshore.serve.front")

    async def talk(client: Client) -> None:
        sent = picture((1, 2, 3))
        for method, path, data in (
            ("POST", "/score", sent), ("POST", "/score", b"no picture"), ("GET", "/healthz", b""), ("GET", "/nothing", b""),
            ("GET", "/v2", b""), ("POST", "/v2/models/colours/infer", b"{}"), ("GET", "/", b""),
        ):  # fmt: skip
            _, headers, _ = await client.ask(method, path, data, {"X-Request-Id": "cam-7/42", "traceparent": TRACE})
            assert (headers["x-request-id"], headers["traceparent"]) == ("cam-7/42", TRACE), path
        assert f"POST '/score' 200 request cam-7/42 trace {TRACE}" in caplog.messages
        made = {(await client.get("/healthz"))[1]["x-request-id"] for _ in range(3)}
        assert len(made) == 3
        for wrong in ("a b", "x" * 129, "\xff", ""):
            _, headers, _ = await client.ask("GET", "/healthz", b"", {"X-Request-Id": wrong})
            assert len(headers["x-request-id"]) == 16
        for wrong in (TRACE[:-1], TRACE.upper(), "00-" + "0" * 32 + TRACE[35:], TRACE + "-x"):
            _, headers, _ = await client.ask("GET", "/healthz", b"", {"traceparent": wrong})
            assert "traceparent" not in headers

    serve(device, talk)
