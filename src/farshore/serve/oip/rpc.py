"""The protocol over gRPC, in the front's own loop. A request becomes REST's binary form here, so that workers know only one.

Tensors are answered raw (``raw_output_contents``), however they came.
"""

from __future__ import annotations

import array
import asyncio
import logging
import struct
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import msgspec
from google.protobuf.message import DecodeError

from farshore.core.errors import (
    Conflict,
    Denied,
    FarshoreError,
    Invalid,
    NotFound,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from farshore.serve.frames import MAX_ANSWER
from farshore.serve.intake import Intake
from farshore.serve.lane import Reply
from farshore.serve.oip import words
from farshore.serve.oip.messages import DATA_TYPES, SERVICE, message_types
from farshore.serve.oip.models import SERVER, Models
from farshore.serve.pool import Pool

log = logging.getLogger(__name__)

_SLACK = 1 << 20
"""Bytes of a message beyond its tensors."""

_CODES: dict[type[FarshoreError], grpc.StatusCode] = {
    TooLarge: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Invalid: grpc.StatusCode.INVALID_ARGUMENT,
    NotFound: grpc.StatusCode.NOT_FOUND,
    Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    Denied: grpc.StatusCode.PERMISSION_DENIED,
    Conflict: grpc.StatusCode.FAILED_PRECONDITION,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
}

_TYPED = {
    "INT8": ("int_contents", "b"), "INT16": ("int_contents", "h"), "INT32": ("int_contents", "i"),
    "INT64": ("int64_contents", "q"), "UINT8": ("uint_contents", "B"), "UINT16": ("uint_contents", "H"),
    "UINT32": ("uint_contents", "I"), "UINT64": ("uint64_contents", "Q"), "FP32": ("fp32_contents", "f"),
    "FP64": ("fp64_contents", "d"), "BOOL": ("bool_contents", "B"), "BYTES": ("bytes_contents", ""),
}  # fmt: skip
"""Datatype → the field of typed contents, and the array's type code."""

_response = msgspec.json.Decoder(words.InferResponse)
_types = message_types()


class Rpc:
    """The gRPC door.

    Args:
        pool: the models.
        intake: counts what is held and what is refused.

    """

    def __init__(self, pool: Pool, intake: Intake) -> None:
        self._models = Models(pool)
        self._intake = intake
        settings = pool.settings
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", settings.max_body + _SLACK),
                ("grpc.max_send_message_length", MAX_ANSWER + _SLACK),
                ("grpc.so_reuseport", 0),
            ],
            # One that waits for its turn holds its tensors: as many as may wait for a model, and those that run.
            maximum_concurrent_rpcs=settings.queue + settings.width,
        )
        verbs: dict[str, Callable[[Any], Awaitable[Any]]] = {
            "ServerLive": self._live, "ServerReady": self._ready, "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata, "ModelMetadata": self._metadata, "ModelInfer": self._infer,
            "ModelStatistics": self._statistics, "ModelConfig": self._config, "RepositoryIndex": self._index,
            "RepositoryModelLoad": self._load, "RepositoryModelUnload": self._unload,
        }  # fmt: skip
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                self._guarded(verb, _types[f"{name}Request"]),
                response_serializer=lambda message: message.SerializeToString(),
            )
            for name, verb in verbs.items()
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    async def start(self, host: str, port: int) -> int:
        """Open the door; returns its port.

        Raises:
            Unavailable: the port cannot be opened.

        """
        try:
            opened: int = self._server.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        except RuntimeError:
            raise Unavailable(f"{host}:{port}: the port for gRPC cannot be opened") from None
        await self._server.start()
        return opened

    async def stop(self, seconds: float) -> None:
        """Take no more, answer what is under way, close."""
        await self._server.stop(seconds)

    async def _live(self, _: Any) -> Any:
        return _types["ServerLiveResponse"](live=True)

    async def _ready(self, _: Any) -> Any:
        return _types["ServerReadyResponse"](ready=self._models.ready)

    async def _model_ready(self, request: Any) -> Any:
        return _types["ModelReadyResponse"](ready=self._models.model_ready(request.name, request.version))

    async def _server_metadata(self, _: Any) -> Any:
        return _types["ServerMetadataResponse"](**SERVER)

    async def _metadata(self, request: Any) -> Any:
        return _types["ModelMetadataResponse"](**self._models.metadata(request.name, request.version))

    async def _config(self, request: Any) -> Any:
        told = self._models.config(request.name, request.version)
        for tensor in (*told["input"], *told["output"]):
            known = tensor["data_type"] in DATA_TYPES
            tensor["data_type"] = DATA_TYPES.index(tensor["data_type"]) if known else 0
        return _types["ModelConfigResponse"](config=told)

    async def _statistics(self, request: Any) -> Any:
        found = self._models.statistics(request.name, request.version)
        return _types["ModelStatisticsResponse"](model_stats=found)

    async def _index(self, request: Any) -> Any:
        return _types["RepositoryIndexResponse"](models=self._models.index(ready=request.ready))

    async def _load(self, request: Any) -> Any:
        await self._models.load(request.model_name)
        return _types["RepositoryModelLoadResponse"]()

    async def _unload(self, request: Any) -> Any:
        await self._models.unload(request.model_name)
        return _types["RepositoryModelUnloadResponse"]()

    async def _infer(self, request: Any) -> Any:
        pieces = body_of(request)
        answered: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def done(reply: Reply) -> None:
            if not answered.done():
                answered.set_result(reply)

        cancel = self._models.infer(request.model_name, request.model_version, pieces, len(pieces[0]), done)
        try:
            reply = await answered
        except asyncio.CancelledError:  # the client is gone, or its deadline has passed
            cancel()
            raise
        if reply.error is not None:
            raise _Answered(reply.error)
        return _told(reply)

    def _guarded(self, verb: Callable[[Any], Awaitable[Any]], kind: Any) -> Callable[[bytes, Any], Awaitable[Any]]:
        """A verb that reads its message and tells errors as gRPC does; request id and trace context come back."""
        intake = self._intake

        async def answer(data: bytes, context: Any) -> Any:
            given = dict(context.invocation_metadata() or ())
            context.set_trailing_metadata(
                tuple((key, given[key]) for key in ("x-request-id", "traceparent") if key in given)
            )
            size = len(data)
            try:
                intake.take(size)
                request = _message(data, kind)
                del data
                return await verb(request)
            except _Answered as answered:  # the model's own count has it
                await context.abort(_code(answered.error), answered.error.message)
            except FarshoreError as error:
                intake.refuse("grpc", error)
                await context.abort(_code(error), error.message)
            finally:
                intake.give_back(size)

        return answer


class _Answered(Exception):
    """A model's answer that is an error."""

    def __init__(self, error: FarshoreError) -> None:
        super().__init__(error.message)
        self.error = error


def _message(data: bytes, kind: Any) -> Any:
    try:
        return kind.FromString(data)
    except DecodeError:
        raise Invalid("the message cannot be read") from None


def _code(error: FarshoreError) -> grpc.StatusCode:
    return next((code for each, code in _CODES.items() if isinstance(error, each)), grpc.StatusCode.INTERNAL)


def body_of(request: Any) -> list[bytes]:
    """A request in REST's form: JSON, then each input's bytes.

    Args:
        request: a ``ModelInferRequest``.

    Raises:
        Invalid: raw and typed contents are mixed, or typed contents do not fit their datatype.

    """
    raw = list(request.raw_input_contents)
    if raw and (len(raw) != len(request.inputs) or any(each.HasField("contents") for each in request.inputs)):
        raise Invalid("raw_input_contents must hold every input, and then no input has contents")
    pieces = raw or [_typed(each) for each in request.inputs]
    inputs = [
        {
            "name": each.name,
            "datatype": each.datatype,
            "shape": list(each.shape),
            "parameters": {**_plain(each.parameters), "binary_data_size": len(piece)},
        }
        for each, piece in zip(request.inputs, pieces, strict=True)
    ]
    parameters = {**_plain(request.parameters), "binary_data_output": True}
    head: dict[str, Any] = {"id": request.id, "parameters": parameters, "inputs": inputs}
    if request.outputs:
        head["outputs"] = [
            {"name": each.name, "parameters": {**_plain(each.parameters), "binary_data": True}}
            for each in request.outputs
        ]
    return [msgspec.json.encode(head), *pieces]


def _typed(tensor: Any) -> bytes:
    """Typed contents as the bytes of a binary tensor."""
    if tensor.datatype not in _TYPED:
        raise Invalid(f"input {tensor.name[:80]!r}: {tensor.datatype[:16]!r} has no typed contents; send it raw")
    field, code = _TYPED[tensor.datatype]
    values = getattr(tensor.contents, field)
    if not code:
        return b"".join(struct.pack("<I", len(value)) + value for value in values)
    try:
        packed = array.array(code, values)
    except OverflowError:
        raise Invalid(f"input {tensor.name[:80]!r}: a number does not fit {tensor.datatype}") from None
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def _plain(parameters: Any) -> dict[str, Any]:
    return {
        key: getattr(value, value.WhichOneof("parameter_choice") or "string_param") for key, value in parameters.items()
    }


def _told(reply: Reply) -> Any:
    """The answer; the version's digest stands among its parameters."""
    assert reply.head is not None  # every output was asked for in binary
    told = _response.decode(reply.body[: reply.head])
    message = _types["ModelInferResponse"](model_name=told.model_name, model_version=told.model_version, id=told.id)
    if reply.source is not None:
        message.parameters["farshore_digest"].string_param = reply.source.digest
    position = reply.head
    for output in told.outputs:
        message.outputs.add(name=output.name, datatype=output.datatype, shape=output.shape)
        size = int(output.parameters["binary_data_size"])
        message.raw_output_contents.append(reply.body[position : position + size])
        position += size
    return message
