"""The protocol's gRPC messages, built when the server starts: no generated code, and no clash with a client's own copy of them.

Names and numbers of fields are those of KServe's ``open_inference_grpc.proto`` (kserve/open-inference-protocol, specification/protocol,
Apache-2.0), and of Triton's ``grpc_service.proto`` and ``model_config.proto`` (triton-inference-server/common, BSD-3-Clause) for
repository, statistics and configuration, which the protocol does not have. They are what goes over the wire; what a message is called nested in another does not.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"

_TABLE = """
ServerLiveRequest
ServerLiveResponse bool live=1
ServerReadyRequest
ServerReadyResponse bool ready=1
ModelReadyRequest string name=1, string version=2
ModelReadyResponse bool ready=1
ServerMetadataRequest
ServerMetadataResponse string name=1, string version=2, string* extensions=3
ModelMetadataRequest string name=1, string version=2
TensorMetadata string name=1, string datatype=2, int64* shape=3
ModelMetadataResponse string name=1, string* versions=2, string platform=3, TensorMetadata* inputs=4, TensorMetadata* outputs=5
InferParameter bool bool_param=1|, int64 int64_param=2|, string string_param=3|, double double_param=4|, uint64 uint64_param=5|
InferTensorContents bool* bool_contents=1, int32* int_contents=2, int64* int64_contents=3, uint32* uint_contents=4, \
uint64* uint64_contents=5, float* fp32_contents=6, double* fp64_contents=7, bytes* bytes_contents=8
InferInputTensor string name=1, string datatype=2, int64* shape=3, InferParameter% parameters=4, InferTensorContents contents=5
InferRequestedOutputTensor string name=1, InferParameter% parameters=2
ModelInferRequest string model_name=1, string model_version=2, string id=3, InferParameter% parameters=4, \
InferInputTensor* inputs=5, InferRequestedOutputTensor* outputs=6, bytes* raw_input_contents=7
InferOutputTensor string name=1, string datatype=2, int64* shape=3, InferParameter% parameters=4, InferTensorContents contents=5
ModelInferResponse string model_name=1, string model_version=2, string id=3, InferParameter% parameters=4, \
InferOutputTensor* outputs=5, bytes* raw_output_contents=6
StatisticDuration uint64 count=1, uint64 ns=2
InferStatistics StatisticDuration success=1, StatisticDuration fail=2, StatisticDuration queue=3, \
StatisticDuration compute_input=4, StatisticDuration compute_infer=5, StatisticDuration compute_output=6
InferBatchStatistics uint64 batch_size=1, StatisticDuration compute_input=2, StatisticDuration compute_infer=3, \
StatisticDuration compute_output=4
ModelStatistics string name=1, string version=2, uint64 last_inference=3, uint64 inference_count=4, uint64 execution_count=5, \
InferStatistics inference_stats=6, InferBatchStatistics* batch_stats=7
ModelStatisticsRequest string name=1, string version=2
ModelStatisticsResponse ModelStatistics* model_stats=1
ModelConfigRequest string name=1, string version=2
ModelInput string name=1, int32 data_type=2, int64* dims=4
ModelOutput string name=1, int32 data_type=2, int64* dims=3
ModelConfig string name=1, string platform=2, int32 max_batch_size=4, ModelInput* input=5, ModelOutput* output=6, string backend=17
ModelConfigResponse ModelConfig config=1
ModelRepositoryParameter bool bool_param=1|, int64 int64_param=2|, string string_param=3|, bytes bytes_param=4|
RepositoryIndexRequest string repository_name=1, bool ready=2
ModelIndex string name=1, string version=2, string state=3, string reason=4
RepositoryIndexResponse ModelIndex* models=1
RepositoryModelLoadRequest string repository_name=1, string model_name=2, ModelRepositoryParameter% parameters=3
RepositoryModelLoadResponse
RepositoryModelUnloadRequest string repository_name=1, string model_name=2, ModelRepositoryParameter% parameters=3
RepositoryModelUnloadResponse
"""
"""A message a line: type, name and number of each field; ``*`` repeated, ``%`` a map from strings, ``|`` in the one choice."""

DATA_TYPES = (
    "TYPE_INVALID", "TYPE_BOOL", "TYPE_UINT8", "TYPE_UINT16", "TYPE_UINT32", "TYPE_UINT64", "TYPE_INT8", "TYPE_INT16", "TYPE_INT32",
    "TYPE_INT64", "TYPE_FP16", "TYPE_FP32", "TYPE_FP64", "TYPE_STRING", "TYPE_BF16",
)  # fmt: skip
"""``model_config.proto``'s DataType, in its order."""

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = ("bool", "int32", "int64", "uint32", "uint64", "float", "double", "string", "bytes")


def message_types() -> dict[str, Any]:
    """Message classes by name."""
    lines = _TABLE.strip().splitlines()
    file = descriptor_pb2.FileDescriptorProto(name="farshore_oip.proto", package=PACKAGE, syntax="proto3")
    for line in lines:
        name, _, fields = line.partition(" ")
        message = file.message_type.add(name=name)
        for field in filter(None, fields.split(", ")):
            _add(message, field)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        message.name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{message.name}"))
        for message in file.message_type
    }


def _add(message: Any, text: str) -> None:
    kind, _, rest = text.partition(" ")
    name, _, number = rest.partition("=")
    field = message.field.add(name=name, number=int(number.rstrip("|")), label=_Field.LABEL_OPTIONAL)
    if number.endswith("|"):
        if not message.oneof_decl:
            message.oneof_decl.add(name="parameter_choice")
        field.oneof_index = 0
    if kind.endswith("%"):
        entry = message.nested_type.add(name="".join(part.capitalize() for part in name.split("_")) + "Entry")
        entry.options.map_entry = True
        _add(entry, "string key=1")
        _add(entry, f"{kind[:-1]} value=2")
        kind = f"{message.name}.{entry.name}*"
    if kind.endswith("*"):
        kind, field.label = kind[:-1], _Field.LABEL_REPEATED
    if kind in _SCALARS:
        field.type = getattr(_Field, f"TYPE_{kind.upper()}")
    else:
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
