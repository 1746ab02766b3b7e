"""A span for each inference request, sent to an OpenTelemetry collector.

Knows no data plane: it stands around the reply of a request. Needs ``pip install "clew[otel]"``.
The standard variables say the rest: ``OTEL_EXPORTER_OTLP_ENDPOINT``, ``OTEL_TRACES_SAMPLER``,
``OTEL_RESOURCE_ATTRIBUTES``. Context: https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import orjson
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from clew.serving.dataplane import Answer
from clew.serving.keeping import UNSAID

Reply = Callable[[Answer], None]


class Tracer:
    """Makes spans, and sends them beside, in batches. ``close`` sends what is left.

    ``redacts`` says of an endpoint whether columns of it are redacted: an error may quote them.
    """

    def __init__(self, version: str, redacts: Callable[[str], bool]) -> None:
        self._redacts = redacts
        resource = Resource.create({"service.name": "clew", "service.version": version})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("clew.serving", version)
        self._context = TraceContextTextMapPropagator()

    def around(self, reply: Reply, name: str, given: Mapping[str, str], endpoint: str) -> Reply:
        """A reply that ends the span of a request which begins now.

        ``given``: its ``traceparent`` and ``tracestate``, if it has them: the span is a child then.
        The answer gets the ``traceparent`` of the span, for what the client does next.
        """
        begun_ns = time.time_ns()
        parent = self._context.extract(given)

        def ended(answer: Answer) -> None:
            span = self._tracer.start_span(
                name, context=parent, kind=SpanKind.SERVER, start_time=begun_ns
            )
            if span.is_recording():
                span.set_attributes(_attributes(answer, endpoint))
                if answer.status >= 500:
                    hidden = self._redacts(endpoint)
                    said = UNSAID if hidden else str(orjson.loads(answer.body)["error"])
                    span.set_status(Status(StatusCode.ERROR, said))
            carrier: dict[str, str] = {}
            self._context.inject(carrier, context=set_span_in_context(span))
            answer.trace = carrier.get("traceparent", "")
            span.end()
            reply(answer)

        return ended

    def close(self) -> None:
        """Send what is left, and end."""
        self._provider.shutdown()


def _attributes(answer: Answer, endpoint: str) -> dict[str, str | int]:
    about: dict[str, str | int] = {
        "clew.endpoint": endpoint,
        "http.response.status_code": answer.status,
    }
    identity = answer.identity
    if identity is None:
        return about
    return about | {
        "clew.prediction_id": answer.prediction_id,
        "clew.revision": identity.revision,
        "clew.model_version": identity.model_version,
        "clew.version": identity.version,
        "clew.global_id": identity.global_id,
    }
