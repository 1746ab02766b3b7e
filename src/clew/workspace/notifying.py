"""Telling somebody of a firing: a signed POST, a command, or a line in the log.

Knows HTTP of the standard library and programs; when and how often is for who calls.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import msgspec

from clew.base.errors import Invalid, Unavailable
from clew.triggers import Action, Firing

_POST_S = 10.0
_COMMAND_S = 60.0


def deliver(firing: Firing, action: Action, secret: Callable[[str], str], directory: Path) -> str:
    """Tell of a firing; what was done, in words.

    Raises:
        Unavailable: ``trigger.notify`` where it may be tried again.
        Invalid: ``trigger.notify`` where the receiver says that it will never be right.
    """
    options = action.options
    body = msgspec.json.encode(told(firing, str(options["message"])))
    if options["url"]:
        return _post(secret(str(options["url"])), body, firing, _key(options, secret))
    if options["command"]:
        return _command([str(one) for one in options["command"]], body + b"\n", directory)
    logging.getLogger("clew.triggers").warning("%s", options["message"] or firing.reason)
    return "wrote to the log"


def told(firing: Firing, message: str) -> dict[str, object]:
    """What a receiver gets: JSON; ``id`` is the same when it comes again."""
    return {
        "id": firing.id,
        "trigger": firing.trigger,
        "pipeline": firing.pipeline,
        "reason": firing.reason,
        "message": message or firing.reason,
        "causes": list(firing.causes),
        "event": firing.event,
        "subject": firing.subject,
        "data": firing.data,
        "global_id": firing.global_id,
        "at": firing.at.isoformat(),
    }


def _key(options: dict[str, object], secret: Callable[[str], str]) -> bytes:
    return secret(str(options["secret"])).encode() if options["secret"] else b""


def _post(url: str, body: bytes, firing: Firing, key: bytes) -> str:
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "clew",
        "Idempotency-Key": firing.id,
        "X-Clew-Firing": firing.id,
    }
    if key:
        signature = hmac.new(key, body, hashlib.sha256).hexdigest()
        headers["X-Hub-Signature-256"] = f"sha256={signature}"
    request = urllib.request.Request(url, body, headers, method="POST")  # noqa: S310 - the scheme was checked
    host = request.host
    try:
        with urllib.request.urlopen(request, timeout=_POST_S) as answer:  # noqa: S310 - as above
            return f"told {host} ({answer.status})"
    except urllib.error.HTTPError as error:
        with error:
            status = error.code
        if status in (408, 425, 429) or status >= 500:
            raise _later(f"{host} answered {status}") from None
        raise Invalid(
            "trigger.notify",
            f"{host} refuses the notification: it answered {status}.",
            hint="Check the URL and the secret of clew.notify, and what the receiver expects.",
        ) from None
    except (OSError, ValueError) as error:
        raise _later(f"{host} cannot be reached: {getattr(error, 'reason', error)}") from None


def _command(command: list[str], body: bytes, directory: Path) -> str:
    try:
        done = subprocess.run(
            command, input=body, cwd=directory, capture_output=True, timeout=_COMMAND_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _later(f"{command[0]} cannot be run: {error}") from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip()[-200:]
        raise _later(f"{command[0]} ended with {done.returncode}: {said}")
    return f"ran {command[0]}"


def _later(what: str) -> Unavailable:
    return Unavailable("trigger.notify", f"{what}.", hint="It is tried again a few times.")
