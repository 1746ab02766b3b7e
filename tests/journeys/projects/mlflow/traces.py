"""Traces: spans that functions leave, found by search, with tags, feedback and expectations."""

import mlflow

client = mlflow.MlflowClient()


@mlflow.trace(span_type="TOOL", attributes={"kind": "sum"})
def add(a, b):
    return a + b


@mlflow.trace
def ask(question):
    mlflow.update_current_trace(tags={"team": "owls"})
    with mlflow.start_span("inner") as span:
        span.set_inputs({"q": question})
        span.set_outputs({"n": add(1, 2)})
    return f"{question}!"


@mlflow.trace
def fails():
    raise ValueError("no")


def flow(see):
    experiment = mlflow.get_experiment_by_name("traces").experiment_id
    see("asked", lambda: ask("why"))
    first = mlflow.get_last_active_trace_id()
    see("failed", fails)
    second = mlflow.get_last_active_trace_id()
    with mlflow.start_run() as run:
        ask("in a run")
        third = mlflow.get_last_active_trace_id()
    mlflow.flush_trace_async_logging()
    trace = mlflow.get_trace(first)
    see(
        "spans",
        lambda: [
            [s.name, s.span_type, str(s.status.status_code), s.inputs, s.outputs]
            for s in trace.data.spans
        ],
    )
    see(
        "info",
        lambda: [str(trace.info.state), trace.info.tags.get("team"), trace.info.request_preview],
    )
    see("the one that failed", lambda: str(mlflow.get_trace(second).info.state))
    see("its event", lambda: [e.name for e in mlflow.get_trace(second).data.spans[0].events])
    see(
        "of a run",
        lambda: (
            mlflow.get_trace(third).info.trace_metadata.get("mlflow.sourceRun") == run.info.run_id
        ),
    )
    search(see, experiment, run)
    feedback(see, first)
    see("tag set", lambda: client.set_trace_tag(first, "more", "x"))
    see("tag there", lambda: mlflow.get_trace(first).info.tags.get("more"))
    see("tag gone", lambda: client.delete_trace_tag(first, "more"))
    see("linked", lambda: client.link_traces_to_run([first], run.info.run_id))
    see("of the run", lambda: len(mlflow.search_traces(run_id=run.info.run_id)))
    by_hand(see, experiment)
    see("some go", lambda: client.delete_traces(experiment, trace_ids=[first]))
    see("it is gone", lambda: mlflow.get_trace(first))
    see("unknown", lambda: mlflow.get_trace("tr-" + "0" * 32))
    see("the rest", lambda: len(client.search_traces([experiment])))


def search(see, experiment, run):
    for text in (
        "attributes.status = 'OK'",
        "attributes.status = 'ERROR'",
        "tags.team = 'owls'",
        "attributes.name = 'ask'",
        "trace.status = 'OK' AND tags.team = 'owls'",
        "span.name = 'add'",
        "span.type = 'TOOL'",
        "attributes.execution_time_ms >= 0",
        "nonsense = 1",
    ):
        see(f"where {text}", lambda text=text: len(client.search_traces([experiment], text)))
    found = client.search_traces([experiment], order_by=["timestamp_ms ASC"], max_results=1)
    see("a page", lambda: [len(found), bool(found.token)])
    see("as a table", lambda: sorted(mlflow.search_traces(locations=[experiment]).columns))
    see("as a list", lambda: len(mlflow.search_traces(locations=[experiment], return_type="list")))


def feedback(see, trace):
    see(
        "feedback",
        lambda: (
            mlflow.log_feedback(trace_id=trace, name="good", value=True, rationale="is so").name
        ),
    )
    see(
        "expectation",
        lambda: mlflow.log_expectation(trace_id=trace, name="answer", value={"a": 1}).name,
    )
    found = mlflow.get_trace(trace).info.assessments
    see("assessments", lambda: sorted([a.name, str(a.value)] for a in found))
    (mine,) = [one for one in found if one.name == "good"]
    see(
        "changed",
        lambda: (
            mlflow.override_feedback(
                trace_id=trace, assessment_id=mine.assessment_id, value=False
            ).value
        ),
    )
    see("got", lambda: mlflow.get_assessment(trace, mine.assessment_id).name)
    see(
        "taken away",
        lambda: mlflow.delete_assessment(trace_id=trace, assessment_id=mine.assessment_id),
    )
    see(
        "by its value",
        lambda: len(
            client.search_traces(
                [mlflow.get_trace(trace).info.experiment_id], "expectation.answer LIKE '%1%'"
            )
        ),
    )


def by_hand(see, experiment):
    root = client.start_trace("by hand", inputs={"x": 1}, tags={"by": "hand"})
    child = client.start_span("child", root.trace_id, root.span_id)
    client.end_span(root.trace_id, child.span_id, outputs={"y": 2})
    client.end_trace(root.trace_id, outputs={"z": 3})
    mlflow.flush_trace_async_logging()
    see("by hand", lambda: [s.name for s in mlflow.get_trace(root.trace_id).data.spans])
