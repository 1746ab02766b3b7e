"""Ask an endpoint as any client would: by the Open Inference Protocol, over HTTP.

Where nothing serves, a serving process is started for the one question, so that there is one way in
which a prediction is made, logged and explained.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from clew.base.asking import classes_of, outputs_of, request_of
from clew.base.errors import ClewError, Invalid, NotFound, NotReady, Unavailable
from clew.base.records import ExplainResult, Prediction, PredictResult
from clew.base.rows import plain_rows
from clew.serving import Serving, ServingProcess, ServingSettings

TIMEOUT_S = 60.0
Rows = Sequence[Mapping[str, object]] | Sequence[Sequence[float]]


def predict(
    serving: Serving, settings: ServingSettings, endpoint: str, rows: Rows
) -> PredictResult:
    """Predict for rows: mappings of column to value, or lists of numbers.

    Raises:
        NotFound: ``endpoint.unknown``.
        NotReady: ``endpoint.empty`` where no model is on it yet.
        Invalid: ``predict.rows`` with what the endpoint says of them; ``endpoint.load`` where no
            revision of it can be loaded.
        Unavailable: ``endpoint.unreachable``.
    """
    body, headers = _asked(serving, settings, endpoint, rows, "infer")
    return PredictResult(
        prediction_id=headers["clew-prediction-id"],
        global_id=headers["clew-global-id"],
        endpoint=endpoint,
        revision=headers["clew-revision"],
        model_version=headers["clew-model-version"],
        outputs=outputs_of(body["outputs"]),
        classes=classes_of(body["outputs"]),
    )


def explain_rows(
    serving: Serving, settings: ServingSettings, endpoint: str, rows: Rows
) -> ExplainResult:
    """What each input did to the answers for rows. Raises as :func:`predict`."""
    return _explained(endpoint, *_asked(serving, settings, endpoint, rows, "explain"))


def logged(serving: Serving, prediction_id: str) -> Prediction:
    """A prediction of the log, also one that is not committed yet.

    Raises:
        NotFound: ``prediction.unknown``.
        Conflict: ``id.ambiguous``.
    """
    found = serving.find_prediction(prediction_id)
    if found is None:
        raise NotFound(
            "prediction.unknown",
            f"There is no prediction {prediction_id!r} in the log.",
            hint="Ids are in the answers' header clew-prediction-id; clew predictions ENDPOINT.",
        )
    return found


def explain_logged(
    serving: Serving, settings: ServingSettings, made: Prediction, version: int | None, row: int
) -> ExplainResult:
    """What each input did to a row of a prediction, by the version (None: a graph) that made it.

    Raises:
        Invalid: ``explain.inputs`` where the log does not have the row, or not all of it;
            ``explain.graph``; and with what the endpoint says.
        NotFound: ``endpoint.version`` where that version is not in memory.
        Unavailable: ``endpoint.unavailable``, ``endpoint.unreachable``.
    """
    if version is None:
        parts = " ".join(made.parts)
        raise Invalid(
            "explain.graph",
            f"{made.endpoint} is a graph there: explain what its nodes answered, each by itself.",
            hint=f"Their predictions: {parts}" if parts else "None of them has answered.",
        )
    rows = max(map(len, made.inputs.values()), default=0)
    if not 0 <= row < rows:
        raise Invalid(
            "explain.inputs",
            f"The log has {rows} rows of inputs of {made.id}, and no row {row}.",
            hint="A request that was refused has none." if not rows else "Rows begin with 0.",
        )
    with _served(serving, settings) as url:
        place = f"{url}/v2/models/{made.endpoint}/versions/{version}"
        described, _ = _call(place, None, settings.token)
        told: Any = {name: values[row] for name, values in made.inputs.items()}
        missing = [one["name"] for one in described["inputs"] if one["name"] not in told]
        if missing:
            raise Invalid(
                "explain.inputs",
                f"The log does not have {', '.join(missing)} of {made.id}: redacted columns are "
                "never kept.",
                hint="Ask with whole rows: clew explain ENDPOINT ROWS",
            )
        if len(described["inputs"]) == 1 and isinstance(next(iter(told.values())), list):
            told = next(iter(told.values()))  # a row of a matrix
        body = request_of(described["inputs"], [told])
        return _explained(made.endpoint, *_call(f"{place}/explain", body, settings.token))


def _explained(endpoint: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> ExplainResult:
    told = {one["name"]: one for one in body["outputs"]}
    parameters = body["parameters"]
    features = json.loads(parameters["clew-features"])
    attributions = _shaped(told["attributions"])
    return ExplainResult(
        prediction_id=headers["clew-prediction-id"],
        global_id=headers["clew-global-id"],
        endpoint=endpoint,
        revision=headers["clew-revision"],
        model_version=headers["clew-model-version"],
        method=parameters["clew-method"],
        link=parameters["clew-link"],
        output=parameters["clew-output"],
        features=features,
        attributions=[dict(zip(features, row, strict=True)) for row in attributions],
        base_values=_shaped(told["base_values"]),
        values=_shaped(told["values"]),
        classes=json.loads(parameters["clew-classes"]),
    )


def _shaped(tensor: Mapping[str, Any]) -> list[Any]:
    """The data of a tensor, which is flat, as lists in lists of its shape."""
    found: list[Any] = tensor["data"]
    for size in reversed(tensor["shape"][1:]):
        found = [found[at : at + size] for at in range(0, len(found), size)]
    return found


def _asked(
    serving: Serving, settings: ServingSettings, endpoint: str, rows: Rows, what: str
) -> tuple[dict[str, Any], Mapping[str, str]]:
    plain = plain_rows(rows)
    live = serving.live(endpoint)
    if live is None:
        raise NotReady(
            "endpoint.empty",
            f"No model is on {endpoint} yet.",
            hint="`clew status` says what is missing: data, training, or a blessing.",
        )
    if live.state == "failed":
        raise Invalid(
            "endpoint.load",
            f"{endpoint} has no revision that can be loaded. Revision {live.number}: {live.reason}",
            hint="Mend that, and apply the file again. `clew endpoints` shows all revisions.",
        )
    with _served(serving, settings) as url:
        place = f"{url}/v2/models/{endpoint}"
        described, _ = _call(place, None, settings.token)
        return _call(f"{place}/{what}", request_of(described["inputs"], plain), settings.token)


@contextmanager
def _served(serving: Serving, settings: ServingSettings) -> Iterator[str]:
    if running := serving.url():
        yield running
        return
    process = ServingProcess.start(settings)
    try:
        yield process.url
    finally:
        process.stop()
        serving.collect(force=True)  # no engine may come along that does


def _call(url: str, body: bytes | None, token: str) -> tuple[dict[str, Any], Mapping[str, str]]:
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    request = Request(url, data=body, headers=headers)  # noqa: S310 - our own http URL
    try:
        with urlopen(request, timeout=TIMEOUT_S) as reply:  # noqa: S310 - our own http URL
            return json.load(reply), reply.headers
    except HTTPError as error:
        raise _refused(url, error) from None
    except URLError as error:
        raise Unavailable(
            "endpoint.unreachable", f"{url} does not answer: {error.reason}.", hint="Try again."
        ) from error


def _refused(url: str, error: HTTPError) -> ClewError:
    try:
        said = str(json.load(error)["error"])
    except (ValueError, KeyError):
        said = str(error)
    if error.code == 404 and "/versions/" in url:
        return NotFound(
            "endpoint.version",
            f"The version that made it is not in memory any more: {said}",
            hint="Give it a share of the requests and ask again: clew traffic ENDPOINT REVISION=1",
        )
    if error.code == 400:
        model = url.rpartition("/")[0]  # of the same version, where one is named
        return Invalid("predict.rows", said, hint=f"Its inputs are described at {model}")
    return Unavailable(
        "endpoint.unavailable",
        f"{url} answers {error.code}: {said}",
        hint="Unless it says what to do: ask again in a moment.",
    )
