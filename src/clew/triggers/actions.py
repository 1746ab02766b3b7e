"""What a trigger does, as values.

Knows what may be written; how it is done is for the workspace.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal
from urllib.parse import urlsplit

from msgspec import Struct, field

from clew.base.errors import Invalid

REFERENCES = ("env:", "file:")


class Action(Struct, frozen=True, kw_only=True):
    """One thing to do. ``options`` belong to the kind."""

    kind: Literal["run", "retrain", "rollback", "notify"]
    options: dict[str, Any] = field(default_factory=dict)

    def words(self) -> str:
        """The action for people."""
        options = self.options
        match self.kind:
            case "run":
                return f"run {options['pipeline']}.{options['step'] or 'all steps'}"
            case "retrain":
                return f"retrain {options['model']}" + (" warm" if options.get("warm") else "")
            case "rollback":
                return f"roll back {options['endpoint']}"
            case _:
                return f"notify {options['url'] or options['command'] or 'the log'}"


def run(step: object = None, *, pipeline: str = "") -> Action:
    """Run a step anew, or with no step all of the pipeline (by default the trigger's own)."""
    own = getattr(getattr(step, "pipeline", None), "name", "")
    name = step if isinstance(step, str) else getattr(step, "name", "")
    return Action(kind="run", options={"pipeline": pipeline or own, "step": name})


def retrain(model: object = None, *, warm: bool = False) -> Action:
    """Train anew, on what waits on staging branches too, and on what is there.

    ``model`` is the training step (by default the only one of the pipeline). ``warm``: the first
    trial can ``trial.restore()`` what the version before has learned; else from scratch.
    """
    found = model if isinstance(model, str) else getattr(model, "repo", "")
    return Action(kind="retrain", options={"model": found, "warm": warm})


def rollback(endpoint: str) -> Action:
    """Give the traffic of an endpoint back to the revision before."""
    if not endpoint:
        raise _wrong("A rollback needs an endpoint", 'Write clew.rollback("name").')
    return Action(kind="rollback", options={"endpoint": endpoint})


def notify(
    url: str = "", *, secret: str = "", command: Sequence[str] = (), message: str = ""
) -> Action:
    """Tell somebody: POST to ``url``, run a ``command``, or (with neither) write to the log.

    The POST is JSON of the firing, signed with ``secret`` (``env:NAME``, ``file:PATH``) in
    ``X-Hub-Signature-256``, with ``Idempotency-Key``; a command gets the same JSON on its input.
    Both are tried again when they fail, with the same key.

    Raises Invalid ``trigger.action``, ``source.secret``.
    """
    if url and command:
        raise _wrong("A notification goes to a URL or to a command", "Write two of them.")
    if url and not url.startswith(REFERENCES) and urlsplit(url).scheme not in ("http", "https"):
        raise _wrong(f"{url!r} is no URL", "It begins with https://, or is env:NAME.")
    if secret and not secret.startswith(REFERENCES):
        raise Invalid(
            "source.secret",
            "A secret stands in the definition of a trigger, which is kept and shown.",
            hint="Say where it is found: env:NAME (of the server's environment) or file:PATH.",
        )
    options = {"url": url, "secret": secret, "command": list(command), "message": message}
    return Action(kind="notify", options=options)


def _wrong(what: str, hint: str) -> Invalid:
    return Invalid("trigger.action", f"{what}.", hint=hint)
