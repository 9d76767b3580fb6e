"""The protocol's words: requests for inference, and how it calls element types. No arrays here: front and worker share it."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from farshore.core.errors import Invalid
from farshore.core.manifest import Tensor

MAX_TENSORS = 1024
MAX_RANK = 32
MAX_JSON_HEAD = 8 << 20
"""Bytes of JSON before binary tensors: names and shapes, no data."""

DATATYPES: dict[str, str] = {
    "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64",
    "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
    "float16": "FP16", "float32": "FP32", "float64": "FP64", "string": "BYTES", "bfloat16": "BF16",
}  # fmt: skip
"""The manifest's dtype → the protocol's datatype."""

Parameter = bool | int | float | str
Parameters = dict[str, Parameter]
Name = Annotated[str, Meta(max_length=1024)]
Size = Annotated[int, Meta(ge=0, le=1 << 40)]


class Input(Struct):
    """An input tensor; ``data`` is JSON, or missing where the tensor is binary."""

    name: Name
    shape: Annotated[list[Size], Meta(max_length=MAX_RANK)]
    datatype: Annotated[str, Meta(max_length=16)]
    parameters: Parameters = {}
    data: msgspec.Raw = msgspec.Raw()


class Output(Struct):
    """A wanted output."""

    name: Name
    parameters: Parameters = {}


class InferRequest(Struct):
    """A request for inference, without what the address says."""

    inputs: Annotated[list[Input], Meta(min_length=1, max_length=MAX_TENSORS)]
    id: Name = ""
    parameters: Parameters = {}
    outputs: Annotated[list[Output], Meta(max_length=MAX_TENSORS)] | None = None


class OutputTensor(Struct, omit_defaults=True):
    """An output tensor; its data is in JSON, or ``binary_data_size`` bytes of it follow."""

    name: str
    datatype: str
    shape: list[int]
    parameters: Parameters = {}
    data: Any = None


class InferResponse(Struct, omit_defaults=True):
    """An answer."""

    model_name: str
    model_version: str
    outputs: list[OutputTensor]
    id: str = ""


_request = msgspec.json.Decoder(InferRequest)


def request_of(body: bytes | memoryview) -> InferRequest:
    """The JSON of a request.

    Raises:
        Invalid: it is none.

    """
    try:
        return _request.decode(body)
    except RecursionError:
        raise Invalid("the request's JSON is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"not a request for inference: {error}"[:500]) from None


def described(tensor: Tensor) -> dict[str, Any]:
    """A tensor as metadata tells it; open sizes are -1."""
    return {
        "name": tensor.name,
        "datatype": DATATYPES.get(tensor.dtype, tensor.dtype.upper()),
        "shape": [size if isinstance(size, int) else -1 for size in tensor.shape],
    }
