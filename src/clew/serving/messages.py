"""Messages of the Open Inference Protocol over gRPC, as protobuf has them in memory.

Knows no transport and no models. The descriptors are written here, by the field numbers of the
specification (https://github.com/kserve/open-inference-protocol), of Triton's extensions and of
gRPC's health protocol, so that nothing generated for one protobuf has to run with another. They
have a pool of their own: a client's messages of the same names may be in the process too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

__all__ = ["MESSAGES", "DecodeError", "Message", "fill"]

PACKAGE = "inference"
_FIELDS: dict[str, str] = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "live=1:bool",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "ready=1:bool",
    "ModelReadyRequest": "name=1:string version=2:string",
    "ModelReadyResponse": "ready=1:bool",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "name=1:string version=2:string extensions=3:string*",
    "ModelMetadataRequest": "name=1:string version=2:string",
    "TensorMetadata": "name=1:string datatype=2:string shape=3:int64*",
    "ModelMetadataResponse": (
        "name=1:string versions=2:string* platform=3:string inputs=4:TensorMetadata* "
        "outputs=5:TensorMetadata*"
    ),
    "InferParameter": (
        "bool_param=1:bool? int64_param=2:int64? string_param=3:string? double_param=4:double? "
        "uint64_param=5:uint64?"
    ),
    "InferTensorContents": (
        "bool_contents=1:bool* int_contents=2:int32* int64_contents=3:int64* "
        "uint_contents=4:uint32* uint64_contents=5:uint64* fp32_contents=6:float* "
        "fp64_contents=7:double* bytes_contents=8:bytes*"
    ),
    "InferInputTensor": (
        "name=1:string datatype=2:string shape=3:int64* parameters=4:InferParameter@ "
        "contents=5:InferTensorContents"
    ),
    "InferRequestedOutputTensor": "name=1:string parameters=2:InferParameter@",
    "ModelInferRequest": (
        "model_name=1:string model_version=2:string id=3:string parameters=4:InferParameter@ "
        "inputs=5:InferInputTensor* outputs=6:InferRequestedOutputTensor* "
        "raw_input_contents=7:bytes*"
    ),
    "InferOutputTensor": (
        "name=1:string datatype=2:string shape=3:int64* parameters=4:InferParameter@ "
        "contents=5:InferTensorContents"
    ),
    "ModelInferResponse": (
        "model_name=1:string model_version=2:string id=3:string parameters=4:InferParameter@ "
        "outputs=5:InferOutputTensor* raw_output_contents=6:bytes*"
    ),
    "ModelStreamInferResponse": "error_message=1:string infer_response=2:ModelInferResponse",
    "ModelConfigRequest": "name=1:string version=2:string",
    "ModelInput": "name=1:string data_type=2:int32 dims=4:int64*",
    "ModelOutput": "name=1:string data_type=2:int32 dims=3:int64*",
    "ModelConfig": (
        "name=1:string platform=2:string max_batch_size=4:int32 input=5:ModelInput* "
        "output=6:ModelOutput* backend=17:string"
    ),
    "ModelConfigResponse": "config=1:ModelConfig",
    "ModelStatisticsRequest": "name=1:string version=2:string",
    "StatisticDuration": "count=1:uint64 ns=2:uint64",
    "InferStatistics": " ".join(
        f"{name}={number}:StatisticDuration"
        for number, name in enumerate(
            ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output",
             "cache_hit", "cache_miss"), 1,
        )
    ),
    "InferBatchStatistics": (
        "batch_size=1:uint64 compute_input=2:StatisticDuration compute_infer=3:StatisticDuration "
        "compute_output=4:StatisticDuration"
    ),
    "ModelStatistics": (
        "name=1:string version=2:string last_inference=3:uint64 inference_count=4:uint64 "
        "execution_count=5:uint64 inference_stats=6:InferStatistics "
        "batch_stats=7:InferBatchStatistics*"
    ),
    "ModelStatisticsResponse": "model_stats=1:ModelStatistics*",
    "ModelRepositoryParameter": (
        "bool_param=1:bool? int64_param=2:int64? string_param=3:string? bytes_param=4:bytes?"
    ),
    "RepositoryIndexRequest": "repository_name=1:string ready=2:bool",
    "ModelIndex": "name=1:string version=2:string state=3:string reason=4:string",
    "RepositoryIndexResponse": "models=1:ModelIndex*",
    "RepositoryModelLoadRequest": (
        "repository_name=1:string model_name=2:string parameters=3:ModelRepositoryParameter@"
    ),
    "RepositoryModelLoadResponse": "",
    "RepositoryModelUnloadRequest": (
        "repository_name=1:string model_name=2:string parameters=3:ModelRepositoryParameter@"
    ),
    "RepositoryModelUnloadResponse": "",
    "HealthCheckRequest": "service=1:string",
    "HealthCheckResponse": "status=1:int32",
    "HealthListRequest": "",
    "HealthListResponse": "statuses=1:HealthCheckResponse@",
}  # fmt: skip
"""Message → its fields: ``name=number:type``, then * repeated, @ a map from strings, ? one of."""

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "double": _Field.TYPE_DOUBLE,
    "float": _Field.TYPE_FLOAT,
    "int64": _Field.TYPE_INT64,
    "uint64": _Field.TYPE_UINT64,
    "int32": _Field.TYPE_INT32,
    "uint32": _Field.TYPE_UINT32,
    "bool": _Field.TYPE_BOOL,
    "string": _Field.TYPE_STRING,
    "bytes": _Field.TYPE_BYTES,
}


def _made() -> dict[str, type[Message]]:
    file = descriptor_pb2.FileDescriptorProto(
        name="clew/open_inference.proto", package=PACKAGE, syntax="proto3"
    )
    for name, fields in _FIELDS.items():
        _describe(file.message_type.add(name=name), fields)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))
        for name in _FIELDS
    }


def _describe(message: Any, fields: str) -> None:
    for field in fields.split():
        name, _, told = field.partition("=")
        number, _, kind = told.partition(":")
        mark = kind[-1] if kind[-1] in "*@?" else ""
        described = message.field.add(
            name=name,
            number=int(number),
            label=_Field.LABEL_REPEATED if mark and mark in "*@" else _Field.LABEL_OPTIONAL,
        )
        if mark == "@":
            entry = "".join(part.capitalize() for part in name.split("_")) + "Entry"
            _entry(message.nested_type.add(name=entry), kind[:-1])
            _typed(described, f"{message.name}.{entry}")
        else:
            _typed(described, kind.rstrip("*?"))
        if mark == "?":
            if not message.oneof_decl:
                message.oneof_decl.add(name="parameter_choice")
            described.oneof_index = 0


def _entry(entry: Any, kind: str) -> None:
    """A map on the wire: repeated pairs of a key and a value."""
    entry.options.map_entry = True
    optional = _Field.LABEL_OPTIONAL
    _typed(entry.field.add(name="key", number=1, label=optional), "string")
    _typed(entry.field.add(name="value", number=2, label=optional), kind)


def _typed(field: Any, kind: str) -> None:
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{PACKAGE}.{kind}"


MESSAGES: Mapping[str, type[Any]] = _made()
"""Name of a message → its class."""


def fill(name: str, value: Mapping[str, Any]) -> Any:
    """A message from plain values; what it has no field for is left out."""
    known = MESSAGES[name].DESCRIPTOR.fields_by_name
    kept = {}
    for field, given in value.items():
        described = known.get(field)
        if described is None:
            continue
        kind = described.message_type
        if kind is None:
            kept[field] = given
        elif isinstance(given, list):
            kept[field] = [fill(kind.name, each) for each in given]
        else:
            kept[field] = fill(kind.name, given)
    return MESSAGES[name](**kept)
