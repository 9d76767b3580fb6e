"""The Open Inference Protocol over gRPC, spoken by an unmodified client of it."""

from __future__ import annotations

import asyncio
import struct
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from farshore.core.errors import Unavailable

from .conftest import Client, Device, serve, trap_model, until
from .tensor_models import TYPES, install_echo, samples

triton = pytest.importorskip("tritonclient.grpc")
grpc = pytest.importorskip("grpc")
InferenceServerException = pytest.importorskip("tritonclient.utils").InferenceServerException
service = triton.service_pb2


def spoken(device: Device, talk: Any, **others: Any) -> Any:
    """Run a server with a gRPC door, and let ``talk(client of the protocol, stub)`` ask it from a thread."""

    async def main(client: Client) -> Any:
        await client.ready()
        address = f"127.0.0.1:{client.server.grpc_port}"

        def run() -> Any:
            with triton.InferenceServerClient(address) as asked, grpc.insecure_channel(address) as channel:
                return talk(asked, triton.service_pb2_grpc.GRPCInferenceServiceStub(channel))

        return await asyncio.to_thread(run)

    return serve(device, main, grpc_port=0, **others)


def test_health_and_metadata(device: Device) -> None:
    install_echo(device)

    def talk(asked: Any, stub: Any) -> None:
        assert asked.is_server_live()
        assert asked.is_server_ready()
        assert asked.is_model_ready("echo", "1")
        server = asked.get_server_metadata()
        assert server.name == "farshore"
        assert "binary_tensor_data" in server.extensions
        told = asked.get_model_metadata("echo")
        assert (told.name, list(told.versions), told.platform) == ("echo", ["1"], "onnxruntime_onnx")
        assert [(each.name, each.datatype, list(each.shape)) for each in told.inputs] == [
            (f"in_{word}", word, [-1, 2]) for word in TYPES
        ]
        config = asked.get_model_config("echo").config
        assert (config.name, config.max_batch_size, config.backend) == ("echo", 0, "onnxruntime")
        types = [triton.model_config_pb2.DataType.Name(each.data_type) for each in config.input]
        assert types == [f"TYPE_{'STRING' if word == 'BYTES' else word}" for word in TYPES]
        assert [list(each.dims) for each in config.output] == [[-1, 2]] * len(TYPES)
        for call in (asked.get_model_metadata, asked.is_model_ready):
            with pytest.raises(InferenceServerException, match=r"NOT_FOUND.*no model 'other'"):
                call("other")

    spoken(device, talk)


def test_every_datatype_raw(device: Device) -> None:
    digest = install_echo(device)

    def talk(asked: Any, stub: Any) -> None:
        inputs = []
        for word, array in samples().items():
            one = triton.InferInput(f"in_{word}", list(array.shape), word)
            one.set_data_from_numpy(array)
            inputs.append(one)
        found = asked.infer("echo", inputs, request_id="17")
        told = found.get_response()
        assert (told.model_name, told.model_version, told.id) == ("echo", "1", "17")
        assert told.parameters["farshore_digest"].string_param == digest
        for word, array in samples().items():
            back = found.as_numpy(f"out_{word}")
            if word == "BYTES":
                assert [value.decode() for value in back.reshape(-1)] == array.reshape(-1).tolist()
            else:
                assert back.dtype == array.dtype
                np.testing.assert_array_equal(back, array)
        wanted = [triton.InferRequestedOutput("out_INT8")]
        assert [each.name for each in asked.infer("echo", inputs, outputs=wanted).get_response().outputs] == [
            "out_INT8"
        ]

    spoken(device, talk)


CONTENTS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents", "INT64": "int64_contents",
    "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents", "UINT64": "uint64_contents",
    "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip


def typed(word: str, values: list[Any]) -> Any:
    request = service.ModelInferRequest(model_name="echo")
    one = request.inputs.add(name=f"in_{word}", datatype=word, shape=[len(values) // 2, 2])
    getattr(one.contents, CONTENTS[word]).extend(values)
    return request


def test_every_datatype_typed(device: Device) -> None:
    install_echo(device, tuple(CONTENTS))

    def talk(asked: Any, stub: Any) -> None:
        request = service.ModelInferRequest(model_name="echo")
        for word in CONTENTS:
            values = samples()[word].reshape(-1).tolist()
            part = typed(word, [value.encode() for value in values] if word == "BYTES" else values)
            request.inputs.append(part.inputs[0])
        found = triton.InferResult(stub.ModelInfer(request))
        for word in CONTENTS:
            back, sent = found.as_numpy(f"out_{word}").reshape(-1).tolist(), samples()[word].reshape(-1).tolist()
            assert [value.decode() for value in back] == sent if word == "BYTES" else back == sent

    spoken(device, talk)


def test_what_is_wrong(device: Device) -> None:
    install_echo(device, ("INT8",))
    good = typed("INT8", [1, 2])

    def changed(**others: Any) -> Any:
        request = service.ModelInferRequest()
        request.CopyFrom(good)
        for name, value in others.items():
            target = request.inputs[0] if name in {"name", "datatype"} else request
            setattr(target, name, value)
        return request

    mixed, short, many = changed(), changed(), typed("INT8", [1, 2, 3, 4])
    mixed.raw_input_contents.append(b"12")
    short.inputs[0].ClearField("contents")
    short.raw_input_contents.append(b"1")
    many.inputs[0].shape[:] = [1, 2]
    unwanted = changed()
    unwanted.outputs.add(name="out_INT8").parameters["classification"].int64_param = 1
    wrong = [
        (changed(model_name="no"), "NOT_FOUND", "no model 'no'"), (changed(model_version="7"), "NOT_FOUND", "version 7"),
        (changed(model_version="x"), "INVALID_ARGUMENT", "no number"), (changed(name="no"), "INVALID_ARGUMENT", "unknown"),
        (changed(datatype="FP16"), "INVALID_ARGUMENT", "raw"), (typed("INT8", [1, 300]), "INVALID_ARGUMENT", "fit INT8"),
        (mixed, "INVALID_ARGUMENT", "raw_input_contents"), (short, "INVALID_ARGUMENT", "1 bytes for 2 elements"),
        (many, "INVALID_ARGUMENT", "4 bytes for 2"), (unwanted, "INVALID_ARGUMENT", "classification"),
        (service.ModelInferRequest(model_name="echo"), "INVALID_ARGUMENT", "inputs"),
    ]  # fmt: skip

    def talk(asked: Any, stub: Any) -> None:
        for request, code, why in wrong:
            with pytest.raises(grpc.RpcError) as caught:
                stub.ModelInfer(request)
            assert caught.value.code().name == code
            assert why in caught.value.details()
        assert triton.InferResult(stub.ModelInfer(good)).as_numpy("out_INT8").tolist() == [[1, 2]]

    spoken(device, talk)


def test_no_message_breaks_it(device: Device) -> None:
    """Any bytes, and messages of any shape: an answer, or an error that is the caller's."""
    install_echo(device, ("INT8",))
    words = st.sampled_from(["in_INT8", "INT8", "BYTES", "FP32", "", "x"])
    bits = st.lists(st.binary(max_size=6), max_size=3)
    sizes = st.lists(st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(0, 3), max_size=4)

    def talk(address: str) -> None:
        with grpc.insecure_channel(address) as channel:
            plain = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")

            @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), database=None)
            @given(words, words, sizes, bits, st.lists(st.integers(-300, 300), max_size=3), st.binary(max_size=5))
            def explore(
                name: str, datatype: str, shape: list[int], raw: list[bytes], ints: list[int], noise: bytes
            ) -> None:
                request = service.ModelInferRequest(model_name="echo", raw_input_contents=raw)
                one = request.inputs.add(name=name, datatype=datatype, shape=shape)
                one.contents.int_contents.extend(ints)
                try:
                    plain(request.SerializeToString() + noise, timeout=30)
                    code = "OK"
                except grpc.RpcError as error:
                    code = error.code().name
                assert code in {"OK", "INVALID_ARGUMENT", "NOT_FOUND"}

            explore()

    async def main(client: Client) -> None:
        await client.ready()
        await asyncio.to_thread(talk, f"127.0.0.1:{client.server.grpc_port}")
        (lane,) = client.server.pool.models["echo"].lanes.values()
        assert lane.deaths == 0

    serve(device, main, grpc_port=0)


def test_repository_and_statistics(device: Device) -> None:
    install_echo(device, ("INT8",))

    def talk(asked: Any, stub: Any) -> None:
        assert [(each.name, each.version, each.state) for each in asked.get_model_repository_index().models] == [
            ("echo", "1", "READY")
        ]
        stub.ModelInfer(typed("INT8", [1, 2]))
        (told,) = asked.get_inference_statistics("echo").model_stats
        assert (told.name, told.version, told.inference_count, told.inference_stats.success.count) == (
            "echo",
            "1",
            1,
            1,
        )
        asked.unload_model("echo")
        (entry,) = asked.get_model_repository_index().models
        assert (entry.state, entry.reason) == ("UNAVAILABLE", "unloaded")
        assert not asked.is_server_ready()
        with pytest.raises(grpc.RpcError):
            stub.ModelInfer(typed("INT8", [1, 2]))
        asked.load_model("echo")
        assert asked.is_model_ready("echo")
        assert stub.ModelInfer(typed("INT8", [3, 4])).raw_output_contents[0] == struct.pack("bb", 3, 4)

    spoken(device, talk, model_control=True)


def test_what_is_refused_is_counted_and_what_is_held_is_bounded(device: Device) -> None:
    """All doors share one limit; a model's own refusals stand in the model's count."""
    install_echo(device, ("BYTES",))

    async def main(client: Client) -> None:
        await client.ready()
        intake = client.server._intake

        def run() -> None:
            with grpc.insecure_channel(f"127.0.0.1:{client.server.grpc_port}") as channel:
                stub = triton.service_pb2_grpc.GRPCInferenceServiceStub(channel)
                stub.ModelInfer(typed("BYTES", [b"a" * 9_000, b"b"]))
                for message, code in (
                    (typed("BYTES", [b"a" * 10_000, b"b"]), "UNAVAILABLE"),
                    (typed("BYTES", [b"\xff", b"b"]), "INVALID_ARGUMENT"),  # the model's worker finds it
                ):
                    with pytest.raises(grpc.RpcError) as caught:
                        stub.ModelInfer(message)
                    assert caught.value.code().name == code
                with pytest.raises(grpc.RpcError):
                    stub.RepositoryModelUnload(triton.service_pb2.RepositoryModelUnloadRequest(model_name="echo"))
                with pytest.raises(grpc.RpcError):
                    stub.ModelMetadata(triton.service_pb2.ModelMetadataRequest(name="other"))

        await asyncio.to_thread(run)
        assert dict(intake.refused) == {("grpc", "unavailable"): 1, ("grpc", "denied"): 1, ("grpc", "not_found"): 1}
        await until(lambda: intake.buffered == 0)  # a client may have its answer a moment before
        assert client.server.pool.models["echo"].counts == {200: 1, 400: 1}

    serve(device, main, grpc_port=0, max_buffered=10_000)


def test_limits_and_metadata(device: Device) -> None:
    install_echo(device, ("BYTES",))

    def talk(asked: Any, stub: Any) -> None:
        trace = ("traceparent", "00-" + "a" * 32 + "-" + "b" * 16 + "-01")
        _, call = stub.ModelInfer.with_call(typed("BYTES", [b"a", b"b"]), metadata=[("x-request-id", "17"), trace])
        back = dict(call.trailing_metadata())
        assert (back["x-request-id"], back["traceparent"]) == ("17", trace[1])
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(typed("BYTES", [b"a" * 2_000_000, b"b"]))
        assert caught.value.code().name == "RESOURCE_EXHAUSTED"

    spoken(device, talk, max_body=4096)


def test_who_stops_waiting_does_not_hold_a_place(device: Device) -> None:
    """A deadline that passes lets go of the lease, though the worker still computes."""
    device.colours(1, data=trap_model(), size=8, activate=True)
    blue = np.zeros((1, 3, 8, 8), np.float32)
    blue[0, 2] = 1

    async def main(client: Client) -> None:
        await client.ready()

        def run() -> None:
            with triton.InferenceServerClient(f"127.0.0.1:{client.server.grpc_port}") as asked:
                one = triton.InferInput("x", [1, 3, 8, 8], "FP32")
                one.set_data_from_numpy(blue)
                with pytest.raises(InferenceServerException, match="Deadline"):
                    asked.infer("colours", [one], client_timeout=1)

        await asyncio.to_thread(run)
        await until(lambda: not client.server.pool.outstanding)

    serve(device, main, grpc_port=0)


def test_a_port_that_is_taken_is_said(device: Device, tmp_path: Any) -> None:
    async def main(client: Client) -> None:
        from farshore.serve.app import Server
        from farshore.serve.settings import Settings

        other = Settings(root=tmp_path / "other", port=0, grpc_port=client.server.grpc_port)
        with pytest.raises(Unavailable, match="gRPC"):
            async with Server(other):
                pass

    serve(device, main, grpc_port=0)


def test_who_does_not_ask_for_it_does_not_pay() -> None:
    code = "import sys, farshore.serve.app; print('grpc' in sys.modules or 'google.protobuf' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        == "False"
    )


def test_messages_are_the_clients_own() -> None:
    """Every field that this side knows has the client's number and type, and bytes of one are read by the other."""
    from farshore.serve.oip.messages import message_types

    flat = {}
    config = triton.model_config_pb2.DESCRIPTOR
    for theirs in (*config.message_types_by_name.values(), *service.DESCRIPTOR.message_types_by_name.values()):
        for each in (theirs, *theirs.nested_types):
            flat[each.name] = each
    for name, ours in message_types().items():
        mine = {field.name: field for field in ours.DESCRIPTOR.fields}
        known = {field.name: field for field in flat[name].fields}
        for field, described in mine.items():
            # An enum goes over the wire as a number, and is one here.
            kind = described.TYPE_INT32 if known[field].enum_type else known[field].type
            assert (described.number, described.type) == (known[field].number, kind), (name, field)
    sent = typed("INT8", [1, 2])
    assert message_types()["ModelInferRequest"].FromString(sent.SerializeToString()).inputs[
        0
    ].contents.int_contents == [1, 2]
