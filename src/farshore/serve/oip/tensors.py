"""The worker's side: from a request's bytes to the arrays that the manifest asks for, and from outputs to an answer's bytes.

Everything is checked against the manifest before a runtime sees it: names, datatypes, shapes, and that there are as many bytes or
numbers as the shape says. Layout of binary tensors: row by row, little-endian, no padding; a BYTES element is a uint32 length and so
many bytes (Triton's extension_binary_data.md).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from farshore.core.errors import Invalid
from farshore.core.manifest import Tensor
from farshore.serve.oip.words import (
    DATATYPES,
    MAX_JSON_HEAD,
    InferRequest,
    InferResponse,
    Input,
    Output,
    OutputTensor,
    Parameters,
    request_of,
)

Array = NDArray[Any]

_DTYPES = {word: np.dtype(name) for name, word in DATATYPES.items() if name not in {"string", "bfloat16"}}
_WORDS = {dtype: word for word, dtype in _DTYPES.items()}
_flat_floats = msgspec.json.Decoder(list[float])
_flat_integers = msgspec.json.Decoder(list[int])
_length = struct.Struct("<I")


def read(body: bytes, head: int | None, wanted: Mapping[str, Tensor]) -> tuple[InferRequest, dict[str, Array]]:
    """A request and the arrays to feed.

    Args:
        body: JSON, with binary tensors behind it where ``head`` is given.
        head: bytes of JSON.
        wanted: the model's inputs by name, from its manifest.

    Raises:
        Invalid: it is no request, or does not fit the model.

    """
    view = memoryview(body)
    if head is not None and head > min(len(view), MAX_JSON_HEAD):
        raise Invalid(f"Inference-Header-Content-Length is {head}; the body has {len(view)} bytes")
    request = request_of(view if head is None else view[:head])
    rest = view[len(view) if head is None else head :]
    feeds: dict[str, Array] = {}
    for given in request.inputs:
        tensor = wanted.get(given.name)
        if tensor is None or given.name in feeds:
            why = "stands twice" if given.name in feeds else f"is unknown; the model takes {', '.join(wanted)}"
            raise Invalid(f"input {given.name[:80]!r} {why}")
        _check(given, tensor)
        feeds[given.name], rest = _array(given, rest)
    missing = [name for name in wanted if name not in feeds]
    if missing:
        raise Invalid(f"inputs are missing: {', '.join(missing)}")
    if len(rest):
        raise Invalid(f"{len(rest)} bytes are left behind the last binary tensor: is a binary_data_size missing?")
    return request, feeds


def tell(
    request: InferRequest, found: Mapping[str, Array], offered: Iterable[str], source: tuple[str, int]
) -> tuple[bytes, int | None]:
    """An answer's bytes.

    Args:
        request: what was asked.
        found: outputs by name.
        offered: names of the model's outputs, in its order.
        source: the model's name and version.

    Returns:
        The body, and how many bytes of it are JSON (None if all).

    Raises:
        Invalid: an unknown output is wanted, or one that the protocol has no word for.

    """
    always = request.parameters.get("binary_data_output") is True
    outputs = [Output(name) for name in offered] if not request.outputs else request.outputs
    told, pieces = [], []
    for output in outputs:
        if output.name not in found:
            raise Invalid(f"output {output.name[:80]!r} is unknown; the model gives {', '.join(found)}")
        array = found[output.name]
        datatype = _datatype(output.name, array)
        one = OutputTensor(output.name, datatype, list(array.shape))
        if _binary(output.parameters, always=always):
            pieces.append(_packed(array))
            one.parameters = {"binary_data_size": len(pieces[-1])}
        else:
            one.data = _plain(array)
        told.append(one)
    name, version = source
    encoded = msgspec.json.encode(InferResponse(name, str(version), told, request.id))
    return (b"".join((encoded, *pieces)), len(encoded)) if pieces else (encoded, None)


def check_wishes(request: InferRequest, offered: Iterable[str]) -> None:
    """Refuse wishes for outputs that cannot be met, before the model runs.

    Raises:
        Invalid: an unknown output, one twice, or an extension that is not offered.

    """
    names = set(offered)
    for output in request.outputs or ():
        if output.name not in names:
            raise Invalid(
                f"output {output.name[:80]!r} is unknown or stands twice; the model gives {', '.join(offered)}"
            )
        names.discard(output.name)
        refused = {"classification", "shared_memory_region"} & output.parameters.keys()
        if refused:
            raise Invalid(f"output {output.name!r}: {refused.pop()} is not offered here")


def _binary(parameters: Parameters, *, always: bool) -> bool:
    wish = parameters.get("binary_data")
    return always if wish is None else wish is True


def _check(given: Input, tensor: Tensor) -> None:
    """An input's datatype and shape must be the manifest's."""
    word = DATATYPES.get(tensor.dtype)
    if word == "BF16" or word is None:
        raise Invalid(f"input {given.name!r} is of type {tensor.dtype}, which is not taken here")
    if given.datatype != word:
        raise Invalid(f"input {given.name!r} is {given.datatype[:16]!r}; the model takes {word}")
    fits = len(given.shape) == len(tensor.shape) and all(
        size == asked if isinstance(asked, int) else size > 0
        for size, asked in zip(given.shape, tensor.shape, strict=True)
    )
    if not fits:
        shape = [size if isinstance(size, int) else -1 for size in tensor.shape]
        raise Invalid(f"input {given.name!r} has the shape {given.shape}; the model takes {shape} (-1: any size)")
    if "shared_memory_region" in given.parameters:
        raise Invalid(f"input {given.name!r}: shared memory is not offered here")


def _array(given: Input, rest: memoryview) -> tuple[Array, memoryview]:
    """An input's array, and what follows its bytes."""
    size = given.parameters.get("binary_data_size")
    data = bytes(given.data)
    if (size is None) == (not data):
        raise Invalid(f"input {given.name!r} needs either data or binary_data_size")
    if size is None:
        return _from_json(given, data), rest
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= len(rest):
        raise Invalid(f"input {given.name!r}: binary_data_size is {size}; {len(rest)} bytes are left in the body")
    return _unpacked(given, rest[:size]), rest[size:]


def _unpacked(given: Input, data: memoryview) -> Array:
    count = math.prod(given.shape)
    if given.datatype == "BYTES":
        return _strings(given, _elements(given, data, count))
    dtype = _DTYPES[given.datatype]
    if len(data) != count * dtype.itemsize:
        raise Invalid(f"input {given.name!r}: {len(data)} bytes for {count} elements of {dtype.itemsize} bytes")
    if dtype == np.bool_:  # any byte but 0 is true; a stored 2 would be neither
        truth: Array = np.frombuffer(data, np.uint8) != 0
        return truth.reshape(given.shape)
    array = np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype, copy=False)
    # Behind JSON of any length an element may stand at an odd address.
    return np.require(array.reshape(given.shape), requirements=["C", "A"])


def _elements(given: Input, data: memoryview, count: int) -> list[bytes]:
    """BYTES elements, each behind its length."""
    found: list[bytes] = []
    position = 0
    while position < len(data) and len(found) < count:
        if len(data) - position < _length.size:
            break
        (length,) = _length.unpack_from(data, position)
        position += _length.size
        if length > len(data) - position:
            break
        found.append(bytes(data[position : position + length]))
        position += length
    if len(found) != count or position != len(data):
        raise Invalid(f"input {given.name!r}: its bytes are not {count} elements, each behind its length")
    return found


def _strings(given: Input, elements: list[bytes]) -> Array:
    """Runtimes' strings are text."""
    array = np.empty(len(elements), object)
    try:
        array[:] = [element.decode() for element in elements]
    except UnicodeDecodeError:
        raise Invalid(f"input {given.name!r}: an element is not UTF-8") from None
    return array.reshape(given.shape)


def _from_json(given: Input, data: bytes) -> Array:
    """An array of JSON, flat or nested as the shape is.

    Numbers are counted by their commas before any is read: a short shape cannot hide a long list.
    """
    count = math.prod(given.shape)
    if given.datatype != "BYTES" and data.count(b",") >= max(count, 1):
        raise Invalid(f"input {given.name!r}: more data than the {count} elements of its shape")
    values = _flat(given, data)
    if len(values) != count:
        raise Invalid(f"input {given.name!r}: {len(values)} elements of data; its shape has {count}")
    if given.datatype == "BYTES":
        if not all(isinstance(value, str) for value in values):
            raise Invalid(f"input {given.name!r}: BYTES in JSON are strings")
        return _strings(given, [value.encode() for value in values])
    dtype = _DTYPES[given.datatype]
    try:
        with np.errstate(over="raise"):
            if dtype.kind == "b" and not all(value in {0, 1} for value in values):
                raise Invalid(f"input {given.name!r}: BOOL is true or false")
            array = np.array(values, np.float64).astype(dtype) if dtype.kind == "f" else np.array(values, dtype)
    except (OverflowError, FloatingPointError, ValueError, TypeError):
        raise Invalid(f"input {given.name!r}: a number does not fit {given.datatype}") from None
    return array.reshape(given.shape)


def _flat(given: Input, data: bytes) -> list[Any]:
    """The elements in order."""
    kind = _DTYPES[given.datatype].kind if given.datatype != "BYTES" else "S"
    try:
        if kind == "f":
            return _flat_floats.decode(data)
        if kind in "iu":
            return _flat_integers.decode(data)
    except msgspec.DecodeError:
        pass  # nested, or wrong: seen below
    try:
        values = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError):
        raise Invalid(f"input {given.name!r}: its data cannot be read") from None
    for depth in range(1, len(given.shape)):
        nested = isinstance(values, list) and values and all(isinstance(each, list) for each in values)
        if not nested or len(values) != math.prod(given.shape[:depth]):
            break
        values = [element for each in values for element in each]
    kinds: tuple[type, ...] = {"S": (str,), "b": (bool, int), "f": (float, int)}.get(kind, (int,))
    if not isinstance(values, list) or not all(isinstance(each, kinds) for each in values):
        raise Invalid(f"input {given.name!r}: its data is no list of {given.datatype}, flat or nested like its shape")
    if kind in "iuf" and any(isinstance(each, bool) for each in values):
        raise Invalid(f"input {given.name!r}: true and false are no {given.datatype}")
    return values


def _datatype(name: str, array: Array) -> str:
    if array.dtype.kind in "OSU":
        return "BYTES"
    word = _WORDS.get(array.dtype.newbyteorder("="))
    if word is None:
        raise Invalid(f"output {name!r} is of type {array.dtype}, for which the protocol has no word")
    return word


def _packed(array: Array) -> bytes:
    if array.dtype.kind in "OSU":
        return b"".join(_length.pack(len(each)) + each for each in map(_encoded, array.reshape(-1).tolist()))
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _plain(array: Array) -> list[Any]:
    """Flat; what JSON cannot say (NaN, infinity) becomes null."""
    values: list[Any] = array.reshape(-1).tolist()
    return [_encoded(value).decode("utf-8", "replace") for value in values] if array.dtype.kind in "OSU" else values


def _encoded(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
