"""Every call of kserve's clients: URL of the server, and HOST:PORT for gRPC."""
# ruff: noqa: PT017 - the client's environment has no pytest

import asyncio
import sys

import grpc
import httpx
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import RequestedOutput

URL, ADDRESS = sys.argv[1:]
ROWS = np.random.default_rng(1).normal(size=(5, 30))
WORDS = ["day", "évening"]


def matrix(array=ROWS, datatype="FP64", *, binary=False):
    given = InferInput("x", list(array.shape), datatype)
    given.set_data_from_numpy(array, binary_data=binary)
    return given


def mixed(*, binary):
    word = InferInput("word", [2], "BYTES")
    word.set_data_from_numpy(np.array(WORDS, dtype=object), binary_data=binary)
    count = InferInput("count", [2], "INT64")
    count.set_data_from_numpy(np.array([1, 2]), binary_data=binary)
    weight = InferInput("weight", [2], "FP64")
    weight.set_data_from_numpy(np.array([0.5, 1.5]), binary_data=binary)
    return [word, count, weight]


def asked(name, inputs, outputs=None, **more):
    return InferRequest(name, inputs, request_outputs=outputs, **more)


def output(response, name):
    (found,) = [each for each in response.outputs if each.name == name]
    return found.as_numpy()


async def rest_v2():
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    assert await client.is_server_ready(URL)
    assert await client.is_server_live(URL)
    assert await client.is_model_ready(URL, "linear")
    assert not await client.is_model_ready(URL, "nobody")
    known = None
    for binary in (True, False):
        headers = {}
        response = await client.infer(
            URL,
            asked("linear", [matrix(binary=binary)], request_id="77"),
            model_name="linear",
            response_headers=headers,
        )
        assert response.id == "77"
        assert headers["clew-prediction-id"]
        found = output(response, "probability")
        known = found if known is None else known
        assert found.shape == (5,)
        assert (found == known).all()
        response = await client.infer(URL, asked("mixed", mixed(binary=binary)), model_name="mixed")
        assert output(response, "length").tolist() == [3, 7]
        upper = [str(each) for each in output(response, "upper").tolist()]
        assert upper == ["DAY", "ÉVENING"]
    wanted = [
        RequestedOutput("probability", {"binary_data": True}),
        RequestedOutput("label", {"binary_data": False}),
    ]
    response = await client.infer(
        URL, asked("forest", [matrix(binary=True)], wanted), model_name="forest"
    )
    assert [each.name for each in response.outputs] == ["probability", "label"]
    assert output(response, "probability").shape == (5,)
    everything = asked("forest", [matrix()], parameters={"binary_data_output": True})
    response = await client.infer(URL, everything, model_name="forest")
    assert output(response, "label").shape == (5,)
    halves = matrix(ROWS.astype(np.float16), "FP16", binary=True)
    response = await client.infer(URL, asked("linear", [halves]), model_name="linear")
    assert np.allclose(output(response, "probability"), known, atol=1e-2)
    plain = {
        "inputs": [{"name": "x", "shape": [1, 30], "datatype": "FP64", "data": ROWS[0].tolist()}]
    }
    response = await client.infer(URL, plain, model_name="linear")
    assert output(response, "probability").shape == (1,)
    many = [
        client.infer(URL, asked("linear", [matrix(binary=True)]), model_name="linear")
        for _ in range(50)
    ]
    assert len(await asyncio.gather(*many)) == 50
    for name, given, status in [
        ("nobody", [matrix()], 404),
        ("linear", [matrix(ROWS[:, :3])], 400),
        ("linear", mixed(binary=False), 400),
        ("mixed", mixed(binary=True)[:2], 400),
    ]:
        try:
            await client.infer(URL, asked(name, given), model_name=name)
        except httpx.HTTPStatusError as error:
            assert error.response.status_code == status, error
            assert error.response.json()["error"]
        else:
            raise AssertionError(f"{name} was not refused")
    await client.close()


async def rest_v1():
    client = InferenceRESTClient(RESTConfig(protocol="v1"))
    assert await client.is_server_live(URL)
    assert await client.is_model_ready(URL, "linear")
    found = await client.infer(URL, {"instances": ROWS.tolist()}, model_name="linear")
    assert len(found["predictions"]) == 5
    rows = [{"word": word, "count": 1, "weight": None} for word in WORDS]
    found = await client.infer(URL, {"instances": rows}, model_name="mixed")
    assert [each["length"] for each in found["predictions"]] == [3, 7]
    columns = {"word": WORDS, "count": [1, 2], "weight": [0.5, 1.5]}
    found = await client.infer(URL, {"inputs": columns}, model_name="mixed")
    assert found["outputs"]["length"] == [3, 7]
    for data in ({"instances": [[1]]}, {}):
        try:
            await client.infer(URL, data, model_name="linear")
        except httpx.HTTPStatusError as error:
            assert error.response.status_code == 400
        else:
            raise AssertionError("it was not refused")
    await client.close()


async def by_grpc():
    async with InferenceGRPCClient(ADDRESS) as client:
        assert await client.is_server_ready()
        assert await client.is_server_live()
        assert await client.is_model_ready("linear")
        assert not await client.is_model_ready("nobody")
        for binary in (True, False):
            response = await client.infer(asked("linear", [matrix(binary=binary)], request_id="77"))
            assert response.id == "77"
            assert output(response, "probability").shape == (5,)
            response = await client.infer(asked("mixed", mixed(binary=binary), request_id="1"))
            assert output(response, "length").tolist() == [3, 7]
        try:
            await client.infer(asked("nobody", [matrix()], request_id="1"))
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.NOT_FOUND
        else:
            raise AssertionError("it was not refused")


asyncio.run(rest_v2())
asyncio.run(rest_v1())

asyncio.run(by_grpc())
print("passed")
