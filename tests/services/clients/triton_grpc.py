"""Every call of tritonclient over gRPC (also its asyncio client): HOST:PORT of the server."""
# ruff: noqa: PT017 - the client's environment has no pytest

import asyncio
import queue
import sys

import numpy as np
import tritonclient.grpc as grpc
import tritonclient.grpc.aio as aio
from tritonclient.utils import InferenceServerException

ADDRESS = sys.argv[1]
ROWS = np.random.default_rng(1).normal(size=(5, 30))


def tensor(name, array, datatype):
    return grpc.InferInput(name, list(array.shape), datatype).set_data_from_numpy(array)


def mixed():
    return [
        tensor("word", np.array(["day", "évening"], dtype=object), "BYTES"),
        tensor("count", np.array([1, 2], dtype=np.int64), "INT64"),
        tensor("weight", np.array([0.5, 1.5]), "FP64"),
    ]


def refused(call, *given, code, **more):
    try:
        call(*given, **more)
    except InferenceServerException as error:
        assert error.status() == f"StatusCode.{code}", (error.status(), error.message())
        return error.message()
    raise AssertionError("it was not refused")


def health_and_metadata(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("linear")
    assert client.is_model_ready("linear", "1")
    assert not client.is_model_ready("linear", "9")
    assert not client.is_model_ready("nobody")
    assert client.get_server_metadata().name == "clew"
    assert "statistics" in client.get_server_metadata(as_json=True)["extensions"]
    model = client.get_model_metadata("mixed", "1", as_json=True)
    assert [each["name"] for each in model["inputs"]] == ["word", "count", "weight"]
    assert {each["name"] for each in model["outputs"]} == {"prediction", "length", "upper"}
    config = client.get_model_config("mixed", as_json=True)["config"]
    assert [each["data_type"] for each in config["input"]] == [
        "TYPE_STRING",
        "TYPE_INT64",
        "TYPE_FP64",
    ]
    refused(client.get_model_metadata, "nobody", code="NOT_FOUND")
    refused(client.get_model_config, "linear", "9", code="NOT_FOUND")


def inference(client):
    given = [tensor("x", ROWS, "FP64")]
    whole = client.infer("linear", given, request_id="77")
    assert whole.get_response().id == "77"
    assert whole.get_response().parameters["clew-prediction-id"].string_param
    assert whole.as_numpy("probability").shape == (5,)
    asked = [grpc.InferRequestedOutput("label")]
    some = client.infer("forest", given, "1", outputs=asked)
    assert some.as_numpy("probability") is None
    assert some.get_output("label").datatype == "INT64"
    for precision, datatype in ((np.float32, "FP32"), (np.float16, "FP16")):
        found = client.infer("linear", [tensor("x", ROWS.astype(precision), datatype)])
        assert np.allclose(found.as_numpy("probability"), whole.as_numpy("probability"), atol=1e-2)
    for packed in (None, "gzip", "deflate"):
        result = client.infer(
            "mixed", mixed(), compression_algorithm=packed, parameters={"clew-key": "a"}
        )
        assert result.as_numpy("prediction").tolist() == [1.5, 3.5]
        assert result.as_numpy("length").tolist() == [3, 7]
        assert [each.decode() for each in result.as_numpy("upper")] == ["DAY", "ÉVENING"]


def classes(client):
    """The top classes of each row agree with the probabilities."""
    assert "classification" in client.get_server_metadata().extensions
    given = [tensor("x", ROWS, "FP64")]
    known = client.infer("forest", given).as_numpy("probability")
    asked = [grpc.InferRequestedOutput("probability", class_count=2)]
    found = client.infer("forest", given, outputs=asked).as_numpy("probability")
    assert found.shape == (5, 2)
    for row, chance in zip(found, known, strict=True):
        values = [float(each.decode().split(":")[0]) for each in row]
        assert values == [max(chance, 1 - chance), min(chance, 1 - chance)]
        assert {each.decode().split(":")[2] for each in row} == {"0", "1"}
    few = [grpc.InferRequestedOutput("probability", class_count=-1)]
    refused(client.infer, "forest", given, outputs=few, code="INVALID_ARGUMENT")


def wrong(client):
    given = [tensor("x", ROWS, "FP64")]
    refused(client.infer, "nobody", given, code="NOT_FOUND")
    refused(client.infer, "linear", given, "9", code="NOT_FOUND")
    few = [tensor("x", ROWS[:, :3], "FP64")]
    assert "[rows, 30]" in refused(client.infer, "linear", few, code="INVALID_ARGUMENT")
    words = [tensor("x", np.full((5, 30), "a", dtype=object), "BYTES")]
    refused(client.infer, "linear", words, code="INVALID_ARGUMENT")
    refused(client.infer, "mixed", mixed()[:2], code="INVALID_ARGUMENT")
    nothing = [grpc.InferRequestedOutput("nothing")]
    refused(client.infer, "linear", given, outputs=nothing, code="INVALID_ARGUMENT")
    refused(client.get_trace_settings, code="UNIMPLEMENTED")
    refused(client.get_system_shared_memory_status, code="UNIMPLEMENTED")
    assert client.infer("linear", given, client_timeout=60).as_numpy("label").shape == (5,)


def statistics(client):
    before = client.get_inference_statistics("linear", "1").model_stats[0]
    client.infer("linear", [tensor("x", ROWS, "FP64")])
    after = client.get_inference_statistics("linear").model_stats[0]
    assert after.inference_count == before.inference_count + 5
    assert after.inference_stats.success.count == before.inference_stats.success.count + 1
    assert after.inference_stats.compute_infer.ns > before.inference_stats.compute_infer.ns
    every = client.get_inference_statistics(as_json=True)["model_stats"]
    assert {each["name"] for each in every} == {"linear", "forest", "mixed"}
    refused(client.get_inference_statistics, "nobody", code="NOT_FOUND")


def repository(client):
    index = client.get_model_repository_index().models
    assert {each.name: each.state for each in index}["forest"] == "READY"
    client.unload_model("forest")
    assert not client.is_model_ready("forest")
    refused(client.infer, "forest", [tensor("x", ROWS, "FP64")], code="NOT_FOUND")
    client.load_model("forest")
    client.infer("forest", [tensor("x", ROWS, "FP64")])
    refused(client.load_model, "nobody", code="NOT_FOUND")
    refused(client.load_model, "forest", config="{}", code="INVALID_ARGUMENT")


def asynchronous(client):
    given = [tensor("x", ROWS, "FP64")]
    answers = queue.Queue()
    for at in range(50):
        client.async_infer(
            "linear",
            given,
            callback=lambda result, error: answers.put((result, error)),
            request_id=str(at),
        )
    found = [answers.get(timeout=60) for _ in range(50)]
    assert all(error is None for _, error in found)
    assert {result.get_response().id for result, _ in found} == set(map(str, range(50)))


def streamed(client):
    answers = queue.Queue()
    client.start_stream(callback=lambda result, error: answers.put((result, error)))
    for at in range(20):
        client.async_stream_infer("mixed", mixed(), request_id=str(at))
    client.async_stream_infer("nobody", mixed(), request_id="wrong")
    client.async_stream_infer("mixed", mixed(), enable_empty_final_response=True)
    found = [answers.get(timeout=60) for _ in range(22)]
    client.stop_stream()
    assert [result.get_response().id for result, _ in found[:20]] == list(map(str, range(20)))
    assert "nobody" in found[20][1].message()
    assert found[21][0].get_response().parameters["triton_final_response"].bool_param


async def by_asyncio():
    async with aio.InferenceServerClient(ADDRESS) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("linear", "1")
        assert (await client.get_server_metadata()).name == "clew"
        assert (await client.get_model_metadata("mixed")).versions == ["1"]
        assert (await client.get_model_config("mixed")).config.name == "mixed"
        assert (await client.get_model_repository_index()).models
        results = await asyncio.gather(*(client.infer("mixed", mixed()) for _ in range(50)))
        assert all(each.as_numpy("length").tolist() == [3, 7] for each in results)
        assert (await client.get_inference_statistics("mixed")).model_stats
        await client.unload_model("mixed")
        assert not await client.is_model_ready("mixed")
        await client.load_model("mixed")

        async def asked():
            for at in range(5):
                yield {"model_name": "mixed", "inputs": mixed(), "request_id": str(at)}

        ids = []
        async for result, error in client.stream_infer(asked()):
            assert error is None
            ids.append(result.get_response().id)
        assert ids == list(map(str, range(5)))


with grpc.InferenceServerClient(ADDRESS) as client:
    for act in (
        health_and_metadata,
        inference,
        classes,
        wrong,
        statistics,
        repository,
        asynchronous,
        streamed,
    ):
        act(client)
asyncio.run(by_asyncio())
print("passed")
