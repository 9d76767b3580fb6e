"""The Open Inference Protocol over HTTP: an unmodified client of it, and what a client may do wrong."""

from __future__ import annotations

import asyncio
import io
import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from farshore.serve.oip import rest

from .conftest import Client, Device, picture, read_response, serve, shared
from .tensor_models import TYPES, install_echo, samples

http = pytest.importorskip("tritonclient.http")
InferenceServerException = pytest.importorskip("tritonclient.utils").InferenceServerException


async def triton(client: Client, talk: Any) -> Any:
    """Let ``talk`` use the protocol's client in a thread of its own."""

    def run() -> Any:
        with http.InferenceServerClient(f"127.0.0.1:{client.server.port}") as asked:
            return talk(asked)

    return await asyncio.to_thread(run)


def inputs_of(arrays: dict[str, np.ndarray], *, binary: bool) -> list[Any]:
    found = []
    for word, array in arrays.items():
        one = http.InferInput(f"in_{word}", list(array.shape), word)
        one.set_data_from_numpy(array, binary_data=binary)
        found.append(one)
    return found


def same(word: str, found: np.ndarray, sent: np.ndarray) -> bool:
    if word == "BYTES":
        return [value.decode() if isinstance(value, bytes) else value for value in found.reshape(-1)] == sent.reshape(
            -1
        ).tolist()
    return found.dtype == sent.dtype and np.array_equal(found, sent)


def test_health_metadata_and_configuration(device: Device) -> None:
    install_echo(device)
    device.colours(3, activate=True)

    def talk(asked: Any) -> None:
        assert asked.is_server_live()
        assert asked.is_server_ready()
        assert asked.is_model_ready("echo")
        assert asked.is_model_ready("echo", "1")
        assert not asked.is_model_ready("echo", "2")
        server = asked.get_server_metadata()
        assert server["name"] == "farshore"
        assert {"binary_tensor_data", "statistics", "model_repository"} <= set(server["extensions"])
        echo = asked.get_model_metadata("echo")
        assert (echo["name"], echo["versions"], echo["platform"]) == ("echo", ["1"], "onnxruntime_onnx")
        assert [tensor["datatype"] for tensor in echo["inputs"]] == list(TYPES)
        assert echo["outputs"][0] == {"name": "out_BOOL", "datatype": "BOOL", "shape": [-1, 2]}
        colours = asked.get_model_metadata("colours", "3")
        assert colours["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [1, 3, 16, 16]}]
        config = asked.get_model_config("colours")
        assert config["max_batch_size"] == 0
        assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [1, 3, 16, 16]}]
        with pytest.raises(InferenceServerException, match="no model 'other'"):
            asked.get_model_metadata("other")

    async def main(client: Client) -> None:
        await client.ready()
        await triton(client, talk)

    serve(device, main)


@pytest.mark.parametrize("back", [True, False], ids=["binary back", "JSON back"])
@pytest.mark.parametrize("there", [True, False], ids=["binary there", "JSON there"])
def test_every_datatype_in_both_forms_both_ways(device: Device, there: bool, back: bool) -> None:
    # The client has no JSON form for FP16.
    types = tuple(word for word in TYPES if (there and back) or word != "FP16")
    install_echo(device, types)
    arrays = {word: array for word, array in samples().items() if word in types}

    def talk(asked: Any) -> None:
        outputs = [http.InferRequestedOutput(f"out_{word}", binary_data=back) for word in types]
        found = asked.infer("echo", inputs_of(arrays, binary=there), outputs=outputs, request_id="17")
        told = found.get_response()
        assert (told["model_name"], told["model_version"], told["id"]) == ("echo", "1", "17")
        for word, array in arrays.items():
            assert same(word, found.as_numpy(f"out_{word}"), array), word
        everything = asked.infer("echo", inputs_of(arrays, binary=there))
        assert [output["name"] for output in everything.get_response()["outputs"]] == [f"out_{word}" for word in types]

    async def main(client: Client) -> None:
        await client.ready()
        await triton(client, talk)

    serve(device, main)


def test_the_same_answer_as_score_gives(device: Device) -> None:
    """Raw tensors are the model's own: a red picture's pixels, divided by 255, score as the picture does."""
    digest = device.colours(2, activate=True)
    tensor = np.zeros((1, 3, 16, 16), np.float32)
    tensor[0, 0], tensor[0, 1] = 1, 0.2

    def talk(asked: Any) -> Any:
        one = http.InferInput("x", [1, 3, 16, 16], "FP32")
        one.set_data_from_numpy(tensor)
        return asked.infer("colours", [one], model_version="2").as_numpy("scores")

    async def main(client: Client) -> None:
        await client.ready()
        scores = await triton(client, talk)
        np.testing.assert_allclose(scores, [[1, 0.2, 0]], atol=1e-6)
        _, _, body = await client.score(picture((255, 51, 0)))
        assert [each["score"] for each in body["classes"]] == pytest.approx([1, 0.2, 0], abs=1e-4)
        body = json.dumps({"inputs": [tensor_json(tensor.tolist())]}).encode()
        status, headers, answer = await client.ask("POST", "/v2/models/colours/infer", body)
        assert status == 200
        assert headers["x-farshore-digest"] == digest
        assert answer["outputs"][0]["data"] == pytest.approx([1, 0.2, 0], abs=1e-6)
        assert answer["outputs"][0]["shape"] == [1, 3]

    serve(device, main)


def tensor_json(data: Any, **others: Any) -> dict[str, Any]:
    return {"name": "x", "datatype": "FP32", "shape": [1, 3, 16, 16], "data": data, **others}


def test_the_repository(device: Device) -> None:
    """Unloading lets go of the worker; loading lets the current version answer again."""
    device.colours(1)
    device.colours(2, activate=True)

    def talk(asked: Any) -> None:
        assert asked.get_model_repository_index() == [
            {"name": "colours", "version": "2", "state": "READY", "reason": ""}
        ]
        asked.load_model("colours")  # it answers already
        asked.unload_model("colours")
        (entry,) = asked.get_model_repository_index()
        assert (entry["version"], entry["state"], entry["reason"]) == ("2", "UNAVAILABLE", "unloaded")
        assert not asked.is_model_ready("colours")
        assert not asked.is_server_ready()
        with pytest.raises(InferenceServerException, match="no model 'colours' answers"):
            asked.infer("colours", [ones()])
        asked.load_model("colours")
        assert asked.is_model_ready("colours", "2")
        assert asked.infer("colours", [ones()]).get_response()["model_version"] == "2"
        with pytest.raises(InferenceServerException, match="is current here"):
            asked.load_model("other")
        with pytest.raises(InferenceServerException, match="no model 'other'"):
            asked.unload_model("other")

    async def main(client: Client) -> None:
        await client.ready()
        first = next(iter(client.server.pool.models["colours"].lanes.values())).worker.pid
        await triton(client, talk)
        (lane,) = client.server.pool.models["colours"].lanes.values()
        assert lane.worker.pid != first
        assert (await client.score(picture((1, 2, 3))))[0] == 200

    serve(device, main, model_control=True)


def ones() -> Any:
    one = http.InferInput("x", [1, 3, 16, 16], "FP32")
    one.set_data_from_numpy(np.ones((1, 3, 16, 16), np.float32))
    return one


def test_the_repository_is_closed_unless_it_is_opened(device: Device) -> None:
    device.colours(1, activate=True)

    async def main(client: Client) -> None:
        status, _, body = await client.ask("POST", "/v2/repository/models/colours/unload")
        assert (status, "model_control" in body["error"]) == (403, True)
        assert (await client.get("/v2/models/colours/ready"))[0] in {200, 503}  # it is not gone

    serve(device, main)


def test_pages_of_other_sites_cannot_unload(device: Device) -> None:
    device.colours(1, activate=True)

    async def main(client: Client) -> None:
        await client.ready()
        for origin, expected in ((b"http://evil.example", 403), (b"null", 403), (b"http://x", 200)):
            reader, writer = await client.connect()
            writer.write(b"POST /v2/repository/models/colours/load HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nOrigin: " + origin
                         + b"\r\n\r\n")  # fmt: skip
            assert (await read_response(reader))[0] == expected
            writer.close()

    serve(device, main, model_control=True)


def test_statistics_count_what_happened(device: Device) -> None:
    device.colours(1, activate=True)

    def talk(asked: Any) -> None:
        for _ in range(3):
            asked.infer("colours", [ones()])
        wrong = http.InferInput("x", [1, 3, 8, 8], "FP32")
        wrong.set_data_from_numpy(np.ones((1, 3, 8, 8), np.float32))
        with pytest.raises(InferenceServerException, match=r"\[1, 3, 16, 16\]"):
            asked.infer("colours", [wrong])
        (told,) = asked.get_inference_statistics("colours", "1")["model_stats"]
        assert (told["name"], told["version"], told["inference_count"], told["execution_count"]) == (
            "colours",
            "1",
            3,
            3,
        )
        assert told["last_inference"] > 1_600_000_000_000
        stats = told["inference_stats"]
        assert (stats["success"]["count"], stats["fail"]["count"], stats["compute_infer"]["count"]) == (3, 1, 3)
        assert stats["success"]["ns"] > stats["compute_infer"]["ns"] > 0
        assert asked.get_inference_statistics()["model_stats"] == [told]
        with pytest.raises(InferenceServerException, match="version 9"):
            asked.get_inference_statistics("colours", "9")

    async def main(client: Client) -> None:
        await client.ready()
        await triton(client, talk)

    serve(device, main)


def test_a_version_by_number(device: Device) -> None:
    """A warm candidate answers who asks for it; the others go on with the version that leads."""
    device.colours(1, activate=True)
    second = device.colours(2)
    device.colours(3)
    body = json.dumps({"inputs": [tensor_json([0.5] * 768)]}).encode()

    async def main(client: Client) -> None:
        await client.ready()
        assert (await client.order("probe", "colours", second))[0] == 200
        for version, expected in (("", "1"), ("/versions/1", "1"), ("/versions/2", "2")):
            status, headers, answer = await client.ask("POST", f"/v2/models/colours{version}/infer", body)
            assert (status, answer["model_version"], headers["x-farshore-version"]) == (200, expected, expected)
        sent = picture((255, 0, 0))
        assert (await client.score(sent, "?version=2"))[2]["classes"][0]["class"] == "red2"
        for version in ("3", "77"):
            status, _, answer = await client.ask("POST", f"/v2/models/colours/versions/{version}/infer", body)
            assert (status, answer) == (404, {"error": f"colours: version {version} is not loaded here; loaded: 1, 2"})
            assert (await client.score(sent, f"?version={version}"))[0] == 404
        assert (await client.ask("POST", "/v2/models/colours/versions/one/infer", body))[0] == 400

    serve(device, main)


def request(**others: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "in_INT8", "datatype": "INT8", "shape": [1, 2], "data": [1, 2], **others}]}


WRONG: list[tuple[Any, str]] = [
    ({}, "inputs"),
    ({"inputs": []}, "inputs"),
    (request(name="other"), "unknown; the model takes in_INT8"),
    ({"inputs": request()["inputs"] * 2}, "stands twice"),
    (request(datatype="INT16"), "the model takes INT8"),
    (request(shape=[1, 3]), "the shape"),
    (request(shape=[2]), "the shape"),
    (request(shape=[0, 2], data=[]), "the shape"),
    (request(shape=[-1, 2]), "shape"),
    (request(data=[1]), "1 elements"),
    (request(data=[1, 2, 3]), "more data"),
    (request(data=[1, 200]), "does not fit INT8"),
    (request(data=[1, "2"]), "flat or nested"),
    (request(data=[1, True]), "no INT8"),
    (request(data=[1, None]), "flat or nested"),
    (request(data=[[1], [2]]), "flat or nested"),
    (request(data=[[1, [2]]]), "flat or nested"),
    (request(data={"a": 1}), "flat or nested"),
    (request(data=10**30), "data"),
    (request(parameters={"binary_data_size": 2}), "either data or binary_data_size"),
    (request(parameters={"shared_memory_region": "r"}), "shared memory"),
    (request(parameters={"a": {}}), "parameters"),
    ({**request(), "outputs": [{"name": "no"}]}, "'no' is unknown"),
    ({**request(), "outputs": [{"name": "out_INT8"}] * 2}, "stands twice"),
    (
        {**request(), "outputs": [{"name": "out_INT8", "parameters": {"classification": 3}}]},
        "classification is not offered",
    ),
    ({**request(), "id": "x" * 2000}, "id"),
    ("[" * 100_000, "request"),
]


def test_what_is_wrong_is_told_in_one_line(device: Device) -> None:
    install_echo(device, ("INT8",))
    address = "/v2/models/echo/infer"

    async def main(client: Client) -> None:
        await client.ready()
        for sent, why in WRONG:
            body = sent.encode() if isinstance(sent, str) else json.dumps(sent).encode()
            status, _, answer = await client.ask("POST", address, body)
            assert status == 400, (sent, answer)
            assert list(answer) == ["error"]
            assert why in answer["error"], (sent, answer)
            assert "\n" not in answer["error"]
        status, _, answer = await client.ask("POST", address, json.dumps(request(data=[[1, 2]])).encode())
        assert (status, answer["outputs"][0]["data"]) == (200, [1, 2])
        for method, path, expected in (
            ("GET", "/v2/nothing", 404), ("GET", "/v2/", 404), ("GET", address, 405), ("POST", "/v2/models/echo", 405),
            ("POST", "/v2/models/other/infer", 404), ("POST", "/v2/repository/index", 200),
        ):  # fmt: skip
            status, headers, _ = await client.ask(method, path)
            assert (status, "allow" in headers) == (expected, expected == 405), path

    serve(device, main)


async def binary(
    client: Client, head: bytes, rest: bytes, length: int | None = None
) -> tuple[int, dict[str, str], Any]:
    reader, writer = await client.connect()
    length = len(head) if length is None else length
    writer.write(
        f"POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\nInference-Header-Content-Length: {length}\r\n"
        f"Content-Length: {len(head) + len(rest)}\r\n\r\n".encode()
        + head
        + rest
    )
    found = await read_response(reader)
    writer.close()
    return found


def described(word: str, size: int | None, shape: tuple[int, ...] = (1, 2)) -> bytes:
    one = {"name": f"in_{word}", "datatype": word, "shape": shape, "parameters": {"binary_data_size": size}}
    return json.dumps({"inputs": [one], "parameters": {"binary_data_output": True}}).encode()


def test_binary_tensors_are_measured(device: Device) -> None:
    install_echo(device, ("BYTES",))
    good = struct.pack("<I", 1) + b"a" + struct.pack("<I", 0)

    async def main(client: Client) -> None:
        await client.ready()
        status, headers, body = await binary(client, described("BYTES", len(good)), good)
        assert status == 200
        assert body[int(headers["inference-header-content-length"]) :] == good
        for size, sent in (
            (len(good) + 1, good), (len(good) - 1, good), (8, b"\xff\xff\xff\xff" * 2), (3, b"\x00" * 3), (-1, good),
            (len(good), struct.pack("<I", 1) + b"\xff" + struct.pack("<I", 0)), (12, b"\x00" * 12), (True, good),
        ):  # fmt: skip
            status, _, answer = await binary(client, described("BYTES", size), sent)
            assert (status, list(answer)) == (400, ["error"]), (size, sent)
        head = described("BYTES", len(good))
        for length in (10**9, len(head) - 1, 0):
            assert (await binary(client, head, good, length))[0] == 400
        huge = described("BYTES", 0, (1 << 39, 2))
        assert (await binary(client, huge, b""))[0] == 400

    serve(device, main)


def test_two_lengths_of_the_json_are_refused(device: Device) -> None:
    async def main(client: Client) -> None:
        reader, writer = await client.connect()
        twice = b"Inference-Header-Content-Length: 1\r\n" * 2
        writer.write(b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n" + twice + b"\r\n")
        assert (await read_response(reader))[0] == 400
        writer.close()

    serve(device, main)


def test_every_route_exists_with_its_method() -> None:
    door = rest._PATTERNS
    for method, route in rest.ROUTES:
        path = route.replace("{model}", "m")
        assert any(each == method and pattern.match(path) for each, _, pattern in door), route


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
SHAPE = st.lists(st.integers(-2, 5) | st.just(1 << 40), max_size=4)
PARAMETERS = st.fixed_dictionaries({}, optional={"binary_data_size": st.integers(-1, 40) | JSON, "binary_data": JSON})
INPUT = st.fixed_dictionaries(
    {
        "name": st.sampled_from([f"in_{word}" for word in TYPES]) | st.text(max_size=4),
        "datatype": st.sampled_from([*TYPES, "BF16", "x"]),
        "shape": SHAPE | st.just([1, 2]) | JSON,
    },
    optional={
        "data": JSON | st.lists(st.integers(-300, 300) | st.floats(), min_size=2, max_size=2),
        "parameters": PARAMETERS,
    },
)
BODY = st.fixed_dictionaries(
    {"inputs": st.lists(INPUT, max_size=4) | st.just([request()["inputs"][0]]) | JSON},
    optional={"outputs": st.lists(st.fixed_dictionaries({"name": st.sampled_from(["out_INT8", "y"]), "parameters": PARAMETERS})),
              "parameters": PARAMETERS, "id": JSON},
)  # fmt: skip


def test_no_body_breaks_it(device: Device) -> None:
    """Whatever is sent: an answer below 500 from the same worker."""
    install_echo(device, ("INT8",))

    async def main(client: Client) -> None:
        await client.ready()
        (lane,) = client.server.pool.models["echo"].lanes.values()
        pid = lane.worker.pid
        loop = asyncio.get_running_loop()

        def ask(head: bytes, rest: bytes, length: int | None) -> int:
            return asyncio.run_coroutine_threadsafe(binary(client, head, rest, length), loop).result(30)[0]

        @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(BODY | JSON, st.binary(max_size=40), st.none() | st.integers(0, 200), st.binary(max_size=3))
        def explore(body: Any, rest: bytes, length: int | None, noise: bytes) -> None:
            assert ask(json.dumps(body).encode() + noise, rest, length) < 500

        await asyncio.to_thread(explore)
        assert (lane.worker.pid, lane.deaths) == (pid, 0)

    serve(device, main)


def test_quantised_tensors_stay_as_they_are(device: Device) -> None:
    """LiteRT, uint8 in and out: nothing is dequantised on the way, and /score's best class is the largest number."""
    device.recognised("imagenet", 1, shared("models/mobilenet_v1_0.25_128_quant.tflite"), {"labels.txt": b"a\n" * 1001})
    sent = np.random.default_rng(3).integers(0, 255, (1, 128, 128, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(sent[0]).save(out, "PNG")

    def talk(asked: Any) -> Any:
        meta = asked.get_model_metadata("imagenet")
        assert (meta["platform"], meta["inputs"][0]["datatype"]) == ("litert_tflite", "UINT8")
        one = http.InferInput(meta["inputs"][0]["name"], [1, 128, 128, 3], "UINT8")
        one.set_data_from_numpy(sent)
        return asked.infer("imagenet", [one]).as_numpy(meta["outputs"][0]["name"])

    async def main(client: Client) -> None:
        await client.ready()
        scores = await triton(client, talk)
        assert (scores.dtype, scores.shape) == (np.uint8, (1, 1001))
        _, _, body = await client.score(out.getvalue())
        assert body["classes"][0]["score"] == pytest.approx(scores.max() / 256, abs=1 / 255)

    serve(device, main)


def test_half_precision_as_json_numbers(device: Device) -> None:
    """The client of the other tests has no such form."""
    install_echo(device, ("FP16",))

    def half(data: list[float]) -> bytes:
        return json.dumps({"inputs": [{"name": "in_FP16", "datatype": "FP16", "shape": [1, 2], "data": data}]}).encode()

    async def main(client: Client) -> None:
        await client.ready()
        status, _, body = await client.ask("POST", "/v2/models/echo/infer", half([0.5, -65504.0]))
        (output,) = body["outputs"]
        assert (status, output["datatype"], output["data"]) == (200, "FP16", [0.5, -65504.0])
        status, _, body = await client.ask("POST", "/v2/models/echo/infer", half([1, 1e6]))
        assert (status, list(body)) == (400, ["error"])

    serve(device, main)


def test_what_http_refuses_has_the_protocols_shape_and_is_counted(device: Device) -> None:
    """One line under ``error`` at these addresses, a code and a line at others; each is in the metrics, by door."""
    address = b"/v2/models/echo/infer"
    host = b"Host: x\r\n"
    asked = (
        (b"GET " + address + b" HTTP/1.1\r\n" + host, 405),
        (b"GET /v2/nothing HTTP/1.1\r\n" + host, 404),
        (b"POST " + address + b" HTTP/1.1\r\n" + host + b"Content-Length: 5000\r\n", 413),
        (b"POST " + address + b" HTTP/1.1\r\n" + host + b"Content-Length: 1\r\nContent-Length: 1\r\n", 400),
        (b"POST " + address + b" HTTP/1.1\r\n" + host + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", 400),
        (b"POST " + address + b" HTTP/1.1\r\nContent-Length: 1\r\n", 400),
        (b"POST " + address + b" HTTP/1.1\r\n" + host + b"Content-Encoding: gzip\r\nContent-Length: 1\r\n", 415),
        (b"POST " + address + b" HTTP/1.1\r\n" + host + b"X: " + b"y" * 20_000 + b"\r\n", 431),
        (b"POST " + address + b" HTTP/1.1\r\n" + host + b"Content-Length: 2\r\n", 408),
    )  # fmt: skip

    async def main(client: Client) -> None:
        for sent, expected in asked:
            for path, shape in ((address, str), (b"/score", dict)):
                if path == b"/score" and expected in {404, 405}:
                    continue
                reader, writer = await client.connect()
                writer.write(sent.replace(address, path) + b"\r\n")
                status, headers, body = await read_response(reader)
                assert (status, list(body), type(body["error"])) == (expected, ["error"], shape), (sent, path)
                assert "x-request-id" in headers
                writer.close()
        status, _, body = await client.ask("POST", address.decode(), b"{")
        assert (status, type(body["error"])) == (404, str)  # there is no such model: its body is not even read
        _, _, page = await client.get("/metrics")
        counts = {
            line.split(" ")[0]: int(line.split(" ")[1])
            for line in page.decode().splitlines()
            if "rejected_total{" in line
        }
        assert counts['farshore_rejected_total{door="v2",code="invalid"}'] == 6
        assert counts['farshore_rejected_total{door="v2",code="too_large"}'] == 2
        assert counts['farshore_rejected_total{door="v2",code="not_found"}'] == 2
        assert counts['farshore_rejected_total{door="http",code="too_large"}'] == 2
        assert counts['farshore_rejected_total{door="http",code="invalid"}'] == 5

    serve(device, main, max_body=4096, body_seconds=0.3)
