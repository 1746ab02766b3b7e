"""gRPC's own health client: HOST:PORT, then the file of an authority where it speaks TLS, and what
is served."""
# ruff: noqa: PT017 - the client's environment has no pytest

import sys
from pathlib import Path

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

ADDRESS, AUTHORITY, ENDPOINT = sys.argv[1:]
SERVING = HealthCheckResponse.SERVING
SERVICES = ("", "inference.GRPCInferenceService", ENDPOINT)


def opened():
    if not AUTHORITY:
        return grpc.insecure_channel(ADDRESS)
    trusted = grpc.ssl_channel_credentials(Path(AUTHORITY).read_bytes())
    return grpc.secure_channel(ADDRESS, trusted)


with opened() as channel:
    health = HealthStub(channel)
    for service in SERVICES:
        assert health.Check(HealthCheckRequest(service=service), timeout=60).status == SERVING
    try:
        health.Check(HealthCheckRequest(service="nobody"), timeout=60)
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.NOT_FOUND, error
    else:
        raise AssertionError("it knows a service that is not there")
    watched = health.Watch(HealthCheckRequest(service=ENDPOINT), timeout=60)
    assert next(watched).status == SERVING
    watched.cancel()
    unknown = health.Watch(HealthCheckRequest(service="nobody"), timeout=60)
    assert next(unknown).status == HealthCheckResponse.SERVICE_UNKNOWN
    unknown.cancel()
    if hasattr(health, "List"):
        from grpc_health.v1.health_pb2 import HealthListRequest

        found = health.List(HealthListRequest(), timeout=60).statuses
        assert {name: one.status for name, one in found.items()}[ENDPOINT] == SERVING
print("passed")
