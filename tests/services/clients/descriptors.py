"""Our descriptors beside tritonclient's generated messages, in one process with its protobuf: what
one writes the other reads. The path of ``messages.py``.
"""

import importlib.util
import sys

from tritonclient.grpc import service_pb2

spec = importlib.util.spec_from_file_location("messages", sys.argv[1])
messages = importlib.util.module_from_spec(spec)
spec.loader.exec_module(messages)

REQUEST = {
    "model_name": "m",
    "model_version": "3",
    "id": "7",
    "inputs": [
        {
            "name": "x",
            "datatype": "FP64",
            "shape": [1, 2],
            "contents": {"fp64_contents": [1.5, -2.0], "bytes_contents": [b"\xff"]},
        }
    ],
    "outputs": [{"name": "y"}],
    "raw_input_contents": [b"\0\1"],
}
STATISTICS = {
    "model_stats": [
        {
            "name": "m",
            "last_inference": 2**40,
            "inference_stats": {"success": {"count": 3, "ns": 9}},
            "batch_stats": [{"batch_size": 4, "compute_infer": {"count": 1, "ns": 2}}],
        }
    ]
}
INDEX = {"models": [{"name": "m", "version": "3", "state": "READY", "reason": "r"}]}


def same(ours, theirs):
    written = ours.SerializeToString(deterministic=True)
    assert written == theirs.SerializeToString(deterministic=True)
    assert type(ours).FromString(written) == ours


for name, value in [
    ("ModelInferRequest", REQUEST),
    ("ModelStatisticsResponse", STATISTICS),
    ("RepositoryIndexResponse", INDEX),
]:
    same(messages.MESSAGES[name](**value), getattr(service_pb2, name)(**value))
ours, theirs = messages.MESSAGES["ModelInferRequest"](), service_pb2.ModelInferRequest()
for each in (ours, theirs):
    each.parameters["a"].bool_param = True
    each.parameters["b"].uint64_param = 2**63
    each.parameters["c"].double_param = 0.5
same(ours, theirs)
assert {each.name for each in service_pb2.DESCRIPTOR.services_by_name.values()}
for name in messages.MESSAGES:
    if generated := getattr(service_pb2, name, None):
        known = {f.name: f.number for f in generated.DESCRIPTOR.fields}
        assert all(known[f.name] == f.number for f in messages.MESSAGES[name].DESCRIPTOR.fields), (
            name
        )
print("passed")
