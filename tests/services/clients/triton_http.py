"""Every call of tritonclient over HTTP (also its asyncio client): HOST:PORT of the server."""
# ruff: noqa: PT017 - the client's environment has no pytest

import asyncio
import sys

import gevent
import numpy as np
import tritonclient.http as http
import tritonclient.http.aio as aio
from tritonclient.utils import InferenceServerException

ADDRESS = sys.argv[1]
ROWS = np.random.default_rng(1).normal(size=(5, 30))


def tensor(module, name, array, datatype, *, binary=True):
    found = module.InferInput(name, list(array.shape), datatype)
    return found.set_data_from_numpy(array, binary_data=binary)


def mixed(module, *, binary=True):
    words = np.array(["day", "évening"], dtype=object)
    return [
        tensor(module, "word", words, "BYTES", binary=binary),
        tensor(module, "count", np.array([1, 2], dtype=np.int64), "INT64", binary=binary),
        tensor(module, "weight", np.array([0.5, 1.5]), "FP64", binary=binary),
    ]


def refused(call, *given, status, **more):
    try:
        call(*given, **more)
    except InferenceServerException as error:
        assert error.status() == str(status), (error.status(), error.message())
        assert error.message()
        return error.message()
    raise AssertionError("it was not refused")


def health_and_metadata(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("linear")
    assert client.is_model_ready("linear", "1")
    assert not client.is_model_ready("linear", "9")
    assert not client.is_model_ready("nobody")
    server = client.get_server_metadata()
    assert server["name"] == "clew"
    assert server["version"]
    assert {"binary_tensor_data", "statistics", "model_repository"} <= set(server["extensions"])
    model = client.get_model_metadata("mixed", "1")
    assert [(each["name"], each["datatype"]) for each in model["inputs"]] == [
        ("word", "BYTES"),
        ("count", "INT64"),
        ("weight", "FP64"),
    ]
    assert {each["name"]: each["datatype"] for each in model["outputs"]} == {
        "prediction": "FP64",
        "length": "INT64",
        "upper": "BYTES",
    }
    assert len(client.get_model_metadata("linear")["inputs"]) == 30
    config = client.get_model_config("mixed")
    assert [each["data_type"] for each in config["input"]] == [
        "TYPE_STRING",
        "TYPE_INT64",
        "TYPE_FP64",
    ]
    refused(client.get_model_metadata, "nobody", status=404)
    refused(client.get_model_metadata, "linear", "9", status=404)


def inference(client):
    answers = {}
    for name in ("linear", "forest"):
        for binary in (True, False):
            for outputs in (
                None,
                [http.InferRequestedOutput("probability", binary_data=binary)],
                [http.InferRequestedOutput("label", binary_data=not binary)],
            ):
                given = [tensor(http, "x", ROWS, "FP64", binary=binary)]
                result = client.infer(name, given, outputs=outputs, request_id="77")
                assert result.get_response()["id"] == "77"
                assert result.get_response()["model_version"] == "1"
                for output in ("probability", "label"):
                    found = result.as_numpy(output)
                    if found is not None:
                        assert found.shape == (5,)
                        known = answers.setdefault((name, output), found)
                        assert (known == found).all()
        assert result.as_numpy("nothing") is None
    for precision, datatype in ((np.float32, "FP32"), (np.float16, "FP16")):
        given = [tensor(http, "x", ROWS.astype(precision), datatype)]
        found = client.infer("linear", given, "1").as_numpy("probability")
        assert np.allclose(found, answers["linear", "probability"], atol=1e-2)
    for binary in (True, False):
        result = client.infer("mixed", mixed(http, binary=binary))
        assert result.as_numpy("prediction").tolist() == [1.5, 3.5]
        assert result.as_numpy("length").tolist() == [3, 7]
        upper = [each.decode() for each in result.as_numpy("upper").tolist()]
        assert upper == ["DAY", "ÉVENING"]
    for packed in ("gzip", "deflate"):
        many = [tensor(http, "x", np.tile(ROWS, (200, 1)), "FP64")]
        result = client.infer(
            "linear",
            many,
            request_compression_algorithm=packed,
            response_compression_algorithm=packed,
        )
        assert result.as_numpy("probability").shape == (1000,)
    custom = client.infer("mixed", mixed(http), parameters={"clew-key": "a"}, priority=1)
    assert custom.get_response()["parameters"]["clew-prediction-id"]
    body, size = http.InferenceServerClient.generate_request_body(mixed(http))
    assert size
    assert body


def classes(client):
    """The top classes of each row agree with the probabilities, as text and as bytes."""
    assert "classification" in client.get_server_metadata()["extensions"]
    given = [tensor(http, "x", ROWS, "FP64")]
    known = client.infer("forest", given).as_numpy("probability")
    for binary in (True, False):
        asked = [
            http.InferRequestedOutput("probability", binary_data=binary, class_count=2),
            http.InferRequestedOutput("label", binary_data=binary),
        ]
        result = client.infer("forest", given, outputs=asked)
        found, labels = result.as_numpy("probability"), result.as_numpy("label")
        assert found.shape == (5, 2)
        for row, label, chance in zip(found, labels, known, strict=True):
            parts = [str(each.decode() if isinstance(each, bytes) else each) for each in row]
            (best, at, name), (other, *_) = (each.split(":") for each in parts)
            assert (float(best), float(other)) == (max(chance, 1 - chance), min(chance, 1 - chance))
            if chance != 0.5:
                assert int(at) == int(name) == int(label)
    one = [http.InferRequestedOutput("prediction", class_count=3)]
    found = client.infer("mixed", mixed(http), outputs=one).as_numpy("prediction")
    assert [each.decode() for each in found.ravel()] == ["1.5:0", "3.5:0"]


def wrong(client):
    given = [tensor(http, "x", ROWS, "FP64")]
    refused(client.infer, "nobody", given, status=404)
    assert "1" in refused(client.infer, "linear", given, "9", status=404)
    said = refused(client.infer, "linear", [tensor(http, "x", ROWS[:, :3], "FP64")], status=400)
    assert "[rows, 30]" in said
    words = np.full((5, 30), "a", dtype=object)
    refused(client.infer, "linear", [tensor(http, "x", words, "BYTES")], status=400)
    refused(client.infer, "linear", given * 2, status=400)
    refused(client.infer, "mixed", mixed(http)[:2], status=400)
    nothing = [http.InferRequestedOutput("nothing")]
    refused(client.infer, "linear", given, outputs=nothing, status=400)
    classes = [http.InferRequestedOutput("probability", class_count=-2)]
    refused(client.infer, "linear", given, outputs=classes, status=400)
    texts = [http.InferRequestedOutput("upper", class_count=2)]
    refused(client.infer, "mixed", mixed(http), outputs=texts, status=400)
    for call in (client.get_trace_settings, client.get_log_settings):
        refused(call, status=404)
    refused(client.get_system_shared_memory_status, status=404)


def statistics(client):
    (before,) = client.get_inference_statistics("linear", "1")["model_stats"]
    client.infer("linear", [tensor(http, "x", ROWS, "FP64")])
    (after,) = client.get_inference_statistics("linear")["model_stats"]
    assert after["inference_count"] == before["inference_count"] + 5
    assert after["execution_count"] == before["execution_count"] + 1
    old, new = (each["inference_stats"]["success"] for each in (before, after))
    assert new["count"] == old["count"] + 1
    assert new["ns"] > old["ns"]
    every = client.get_inference_statistics()["model_stats"]
    assert {each["name"] for each in every} == {"linear", "forest", "mixed"}
    refused(client.get_inference_statistics, "nobody", status=404)


def repository(client):
    states = {each["name"]: each["state"] for each in client.get_model_repository_index()}
    assert states == dict.fromkeys(("linear", "forest", "mixed"), "READY")
    client.unload_model("forest")
    assert not client.is_model_ready("forest")
    refused(client.infer, "forest", [tensor(http, "x", ROWS, "FP64")], status=404)
    states = {each["name"]: each["state"] for each in client.get_model_repository_index()}
    assert states["forest"] == "UNAVAILABLE"
    client.load_model("forest")
    assert client.is_model_ready("forest")
    client.infer("forest", [tensor(http, "x", ROWS, "FP64")])
    refused(client.load_model, "nobody", status=404)
    refused(client.load_model, "forest", config="{}", status=400)


def asynchronous(client):
    given = [tensor(http, "x", ROWS, "FP64")]
    asked = [client.async_infer("linear", given, request_id=str(at)) for at in range(20)]
    assert [each.get_result().get_response()["id"] for each in asked] == [
        str(at) for at in range(20)
    ]
    with http.InferenceServerClient(ADDRESS, concurrency=8) as wide:
        tasks = [gevent.spawn(wide.infer, "forest", given) for _ in range(40)]
        gevent.joinall(tasks, raise_error=True)
        assert all(each.value.as_numpy("label").shape == (5,) for each in tasks)


async def by_asyncio():
    async with aio.InferenceServerClient(ADDRESS) as client:
        assert await client.is_server_live()
        assert await client.is_model_ready("linear", "1")
        assert (await client.get_server_metadata())["name"] == "clew"
        assert (await client.get_model_metadata("mixed"))["versions"] == ["1"]
        assert await client.get_model_config("mixed")
        assert await client.get_model_repository_index()
        given = mixed(aio)
        results = await asyncio.gather(*(client.infer("mixed", given) for _ in range(50)))
        assert all(each.as_numpy("length").tolist() == [3, 7] for each in results)
        assert (await client.get_inference_statistics("mixed"))["model_stats"]
        await client.unload_model("mixed")
        assert not await client.is_model_ready("mixed")
        await client.load_model("mixed")
        try:
            await client.infer("nobody", given)
        except InferenceServerException as error:
            assert error.status() == "404"


with http.InferenceServerClient(ADDRESS) as client:
    for act in (
        health_and_metadata,
        inference,
        classes,
        wrong,
        statistics,
        repository,
        asynchronous,
    ):
        act(client)
asyncio.run(by_asyncio())
print("passed")
