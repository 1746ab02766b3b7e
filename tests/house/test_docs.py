"""The documents are true: what they show runs, what exists is in the reference, links lead on.

Each document is one story: its blocks run in order, in one directory of their own.

- ```` ```python ```` is run as a script; ```` ```python file="x.py" ```` is written to that file.
- ```` ```console ```` holds commands (``$ ``) and what they print. A command ends with status 0, or
  with N where its comment says ``# exits N``. Lines shown must appear in this order (branches of
  a tree in any); numbers, times and ids may differ, and ``…`` stands for anything. An id that was
  shown is the real one where a later command names it. Curl is left out where it is not installed.
- ``no-run="why"`` opts a block out, with its reason.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from typer.main import get_command

import clew
from clew.base import errors
from clew.base.ids import ALPHABET
from clew.base.records import JOB_STATES
from clew.base.settings import VARIABLES
from clew.base.verbs import Verbs
from clew.cli.app import tree as commands
from clew.cli.frame import EXIT_CODES
from clew.quality import Column, Table
from clew.server import create_app

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "clew"
REFERENCE = (ROOT / "docs" / "reference.md").read_text()
STORIES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINKED = [*STORIES, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "design").glob("*.md"))]
COMMAND_S = 120


# the blocks of a document ---------------------------------------------------------------------


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, what its fence says, its text, and where it begins."""

    language: str
    info: dict[str, str]
    text: str
    line: int


def blocks_of(text: str) -> list[Block]:
    found = []
    for fence in re.finditer(r"^```(\w+)([^\n]*)\n(.*?)^```$", text, re.M | re.S):
        words = (word.partition("=") for word in shlex.split(fence[2]))
        info = {name: value for name, _, value in words}
        found.append(Block(fence[1], info, fence[3], text[: fence.start()].count("\n") + 1))
    return found


@dataclass(frozen=True)
class Command:
    """A line behind ``$ ``, the status that it must end with, and what is shown of its output."""

    line: str
    exits: int
    shown: list[str]


def commands_of(text: str) -> Iterator[Command]:
    for part in re.split(r"^\$ ", text, flags=re.M)[1:]:
        lines = part.splitlines()
        line = lines.pop(0)
        while line.endswith("\\"):
            line = f"{line[:-1]}{lines.pop(0).removeprefix('>').lstrip()}"
        exits = re.search(r"#.*\bexits (\d+)", line)
        yield Command(
            line, int(exits[1]) if exits else 0, [shown for shown in lines if shown.strip()]
        )


# running them ---------------------------------------------------------------------------------

AN_ID = (
    rf"(?<![\w.])(?=[a-z]*[0-9])(?:p[{ALPHABET}]{{16}}|[{ALPHABET}]{{16}}|[{ALPHABET}]{{8}})(?!\w)"
)
A_NUMBER = r"\d[\d.,]*(?:e[+-]?\d+)?"
A_TIME = rf"{A_NUMBER} (?:ms|s|min|h)\b"
A_SIZE = rf"{A_NUMBER} (?:B|kB|MB)\b"
LOOSE = re.compile(f"(?P<id>{AN_ID})|(?P<time>{A_TIME})|(?P<size>{A_SIZE})|(?P<number>{A_NUMBER})")
SERVER = re.compile(r"^(?:\w+=\S+ )*clew server")


class Story:
    """One document, run in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "story"
        self.directory.mkdir()
        programs = directory / "bin"
        programs.mkdir()
        for name, start in (("clew", "-m clew.cli"), ("python", "")):
            (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {start} "$@"\n')
            (programs / name).chmod(0o755)
        self.environ = {k: v for k, v in os.environ.items() if not k.startswith("CLEW_")}
        self.environ["PATH"] = f"{programs}:{self.environ['PATH']}"
        self.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        self.environ["CLEW_AUTOLOG"] = "off"  # MLflow starts for minutes on a busy machine
        self.environ["COLUMNS"] = "160"  # as on a terminal that is wide enough
        self.known: dict[str, str] = {}
        self.server: subprocess.Popen[bytes] | None = None

    def run(self, block: Block) -> None:
        if "file" in block.info:
            (self.directory / block.info["file"]).write_text(block.text)
        elif block.language == "python":
            self._ended(self._start(["python", "-c", self._real(block.text)]), 0)
        else:
            for command in commands_of(block.text):
                self._type(command)

    def close(self) -> None:
        if self.server is not None:
            self.server.send_signal(signal.SIGINT)
            assert self.server.wait(COMMAND_S) == 0
            self.server = None

    def _type(self, command: Command) -> None:
        line = self._real(command.line)
        if line.startswith("curl") and shutil.which("curl") is None:
            return
        if SERVER.match(line):
            said = self._serve(line)
        else:
            said = self._ended(self._start(["sh", "-c", line]), command.exits)
        self._compare(command, said)

    def _start(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.directory,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )

    def _ended(self, done: subprocess.CompletedProcess[str], exits: int) -> str:
        what = f"{done.args[-1]}\nended with {done.returncode}, not {exits}:\n{done.stdout}"
        assert done.returncode == exits, what
        return done.stdout

    def _serve(self, line: str) -> str:
        """Start a server on free ports (an earlier one ends); later blocks reach it by the ports
        that the document shows.
        """
        self.close()
        log = self.directory / ".clew" / "server.log"
        bare = line.partition("#")[0]
        with log.open("wb") as out:
            self.server = subprocess.Popen(
                ["sh", "-c", f"exec env {bare} --port 0 --serving-port 0"],
                cwd=self.directory,
                env=self.environ,
                stdout=out,
                stderr=out,
            )
        end = time.monotonic() + COMMAND_S
        while "Ctrl-C" not in log.read_text():
            assert self.server.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.05)
        running = json.loads((self.directory / ".clew" / "server.json").read_text())
        self.known["127.0.0.1:8686"] = running["url"].rpartition("/")[2]
        self.known["127.0.0.1:8687"] = running["serving_url"].rpartition("/")[2]
        return log.read_text()

    def _real(self, text: str) -> str:
        """The text with the ids and ports of this run in place of those that are printed."""
        for shown, real in self.known.items():
            text = re.sub(rf"(?<!\w){re.escape(shown)}(?!\w)", real, text)
        return text

    def _compare(self, command: Command, said: str) -> None:
        lines = iter(said.splitlines())
        for shown in command.shown:
            branch = re.match(r"[\s│]*[├└]── ", shown)  # branches of a tree have no order
            pattern, ids = self._pattern(shown[branch.end() :] if branch else shown)
            among = said.splitlines() if branch else lines
            match = next((found for line in among if (found := re.search(pattern, line))), None)
            if match is None:
                pytest.fail(f"$ {command.line}\ndoes not show\n{shown}\nbut\n{said}")
            self._learn(ids, match)

    def _pattern(self, shown: str) -> tuple[str, list[str]]:
        ids: list[str] = []

        def loose(match: re.Match[str]) -> str:
            if match["id"] is None:
                units = {"time": "(?:ms|s|min|h)", "size": "(?:B|kB|MB)", "number": ""}
                unit = units[str(match.lastgroup)]
                return f"{A_NUMBER} {unit}" if unit else A_NUMBER
            if known := self.known.get(match["id"]):
                return re.escape(known)
            ids.append(match["id"])
            return f"([{ALPHABET}]{{{len(match['id'])}}})"

        parts = []
        for part in re.split(r"(\s*…\s*)", " ".join(shown.split())):
            end = 0
            if "…" in part:
                parts.append(".*")
                continue
            for match in LOOSE.finditer(part):
                parts += [re.escape(part[end : match.start()]), loose(match)]
                end = match.end()
            parts.append(re.escape(part[end:]))
        return "".join(parts).replace(r"\ ", r"\s+"), ids

    def _learn(self, ids: list[str], match: re.Match[str]) -> None:
        for shown, real in zip(ids, match.groups(), strict=True):
            self.known[shown] = real
            self.known.setdefault(shown[:8], real[:8])


@pytest.mark.timeout(600)  # forty commands, one after the other, on a machine that may be busy
@pytest.mark.parametrize("document", STORIES, ids=lambda path: path.name)
def test_what_a_document_shows_runs(document: Path, tmp_path: Path) -> None:
    story = Story(tmp_path)
    try:
        for block in blocks_of(document.read_text()):
            if block.language in {"python", "console"} and "no-run" not in block.info:
                begun = time.monotonic()
                story.run(block)
                print(f"{document.name}:{block.line}  {time.monotonic() - begun:.1f} s")
    finally:
        story.close()


@pytest.mark.parametrize("document", STORIES, ids=lambda path: path.name)
def test_a_block_that_does_not_run_says_why(document: Path) -> None:
    for block in blocks_of(document.read_text()):
        assert len(block.info.get("no-run", "a reason").split()) > 1, f"line {block.line}"


# the reference is complete ----------------------------------------------------------------------


def missing(words: object, *, code: bool = True) -> list[str]:
    """Those that the reference does not have (as code: between backticks or in a code block)."""
    inside = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", REFERENCE, re.S)) if code else REFERENCE
    return sorted(
        word
        for word in set(words)
        if not re.search(rf"(?<![\w.-]){re.escape(word)}(?![\w-])", inside)
    )


def section(title: str) -> str:
    """What stands below a heading, down to the next of its level."""
    match = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{1,3}} |\Z)", REFERENCE, re.M | re.S)
    assert match, f"docs/reference.md has no section {title!r}"
    return match[2]


def leaves(tree: object, above: str = "") -> Iterator[tuple[str, object]]:
    """Every command by its words, groups and what is in them."""
    for name, command in tree.commands.items():
        yield f"{above}{name}", command
        if hasattr(command, "commands"):
            yield from leaves(command, f"{above}{name} ")


def test_every_command_and_option_is_in_the_reference() -> None:
    tree = get_command(commands())
    wrong = []
    for name, command in leaves(tree):
        text = section(f"`clew {name}`")
        for parameter in command.params:
            names = [parameter.name] if parameter.param_type_name == "argument" else parameter.opts
            names = [*names, *parameter.secondary_opts]
            wrong += [
                f"clew {name}: {one}"
                for one in names
                if one != "--help" and f"`{one}" not in text and f", {one}`" not in text
                and one.upper() not in text
            ]  # fmt: skip
    assert not wrong, f"not in docs/reference.md: {wrong}"


def test_every_setting_is_in_the_reference() -> None:
    assert not missing(VARIABLES)


def test_every_exit_status_is_in_the_reference() -> None:
    text = section("Exit status")
    wrong = [kind for kind, code in EXIT_CODES.items() if f"| {code} | `{kind}`" not in text]
    assert not wrong
    assert not missing(EXIT_CODES)


def test_every_public_name_and_what_it_takes_is_in_the_reference() -> None:
    names = {f"clew.{name}" for name in clew.__all__}
    assert not missing(names)
    wrong = []
    takers = [
        *(getattr(clew, name) for name in clew.__all__),
        *(value for name, value in vars(clew.Pipeline).items() if not name.startswith("_")),
        *(value for name, value in vars(clew.Candidate).items() if not name.startswith("_")),
        *(value for name, value in vars(clew.Trial).items() if not name.startswith("_")),
    ]
    for one in takers:
        if inspect.isfunction(one):
            found = [f"{name}" for name in inspect.signature(one).parameters if name != "self"]
            wrong += [f"{one.__qualname__}: {name}" for name in missing(found)]
    assert not wrong, f"not in docs/reference.md: {wrong}"


@pytest.mark.parametrize("kind", [clew.Pipeline, clew.Trial, clew.Candidate, Table, Column])
def test_every_method_that_a_user_calls_is_in_the_reference(kind: type) -> None:
    internal = {"expectations", "paused", "latest_checkpoint", "nodes", "endpoints", "monitors"}
    names = {name for name in vars(kind) if not name.startswith("_")} - internal
    wrong = [name for name in names if not re.search(rf"`[\w.]*\b{name}\b[(`]", REFERENCE)]
    assert not wrong, f"not in docs/reference.md: {kind.__name__}: {wrong}"


def test_every_verb_is_in_the_reference() -> None:
    text = section("Python: the workspace")
    names = [name for name in dir(Verbs) if not name.startswith("_")]
    assert not [name for name in names if f"{name}(" not in text]


def strings_of(tree: ast.AST) -> list[str]:
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


@cache
def source() -> list[ast.Module]:
    """Every file of the package, parsed, but for what only tests and users import."""
    left_out = {"testing", "templates"}
    files = [path for path in SOURCE.rglob("*.py") if path.parts[len(SOURCE.parts)] not in left_out]
    return [ast.parse(path.read_text()) for path in files]


@cache
def nodes_of_source() -> list[ast.AST]:
    return [node for tree in source() for node in ast.walk(tree)]


def kinds_of_events() -> set[str]:
    """First arguments of calls whose name ends in ``emit`` (or that pass one on), where literal."""
    passing = {"emit", "_emit", "_move", "_moved", "_note"}
    found = {"commit.open", "commit.finished", "commit.aborted"}  # made from the state of a commit
    for node in nodes_of_source():
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in passing:
            words = [word for one in node.args for word in strings_of(one)]
            found |= {word for word in words if re.fullmatch(r"[a-z]+\.[a-z]+", word)}
    return found


def test_every_kind_of_event_is_in_the_reference() -> None:
    kinds = kinds_of_events()
    assert {"job.ended", "drift.seen", "trigger.fired", "trial.paused"} <= kinds
    assert not missing(kinds)


MADE = {
    "call.{self.kind}": {"call.timeout", "call.memory", "call.died", "call.lost"},
    "{what}.unknown": {"experiment.unknown", "trial.unknown"},
}
"""Codes that are put together where they are raised."""


def codes_of_errors() -> set[str]:
    """First arguments of errors that are made, and what stands for ``code`` elsewhere."""
    kinds = {name for name, cls in vars(errors).items() if isinstance(cls, type)}
    found: set[str] = set()
    for node in nodes_of_source():
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            codes = node.args[:1] if name in kinds else []
            codes += node.args[1:2] if name == "encode_or_refuse" else []
            codes += [word.value for word in node.keywords if word.arg == "code"]
        elif isinstance(node, ast.FunctionDef):
            given = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
            codes = [default for arg, default in given if arg.arg == "code" and default]
        else:
            continue
        for code in codes:
            if isinstance(code, ast.JoinedStr):
                found |= MADE.get(ast.unparse(code)[2:-1], set())
            elif isinstance(code, ast.Constant):
                found.add(str(code.value))
    return {code for code in found if re.fullmatch(r"[a-z_]+\.[a-z_]+", code)}


def test_every_error_code_is_in_the_reference() -> None:
    codes = codes_of_errors()
    assert {"repo.unknown", "call.timeout", "trial.unknown", "model.not_blessed"} <= codes
    assert not missing(codes)


def test_every_code_of_the_reference_exists() -> None:
    rows = re.findall(r"^\| `([a-z_]+\.[a-z_]+)` \| ([a-z_]+) \|", REFERENCE, re.M)
    shown = {code for code, kind in rows if kind in {*EXIT_CODES, "error"}}
    assert len(shown) > 100
    words = {word for tree in source() for word in strings_of(tree)}
    gone = shown - codes_of_errors() - words
    assert not gone, f"docs/reference.md has codes that nothing raises: {sorted(gone)}"


def test_every_state_is_in_the_reference() -> None:
    tree = ast.parse((SOURCE / "base" / "records" / "models.py").read_text())
    documented = "\n".join(
        ast.get_docstring(n) or "" for n in tree.body if isinstance(n, ast.ClassDef)
    )
    states = re.findall(r"``state``: (.*?)\.", documented, re.S)
    words = {word for line in states for word in re.findall(r"[a-z_]+", line)} - {"or"}
    assert "rolled_back" in words
    assert not missing({*JOB_STATES, *words})


def test_every_route_is_in_the_reference() -> None:
    app = create_app(None)  # asked for its routes alone
    described = app.inner.openapi()["paths"]
    routes = {
        f"{method.upper()} {path}" for path, methods in described.items() for method in methods
    }
    text = re.sub(r"[`|]", " ", REFERENCE)
    known = re.sub(r"\s+", " ", text)
    gone = [route for route in sorted(routes) if f" {route} " not in known]
    assert not gone, f"not in docs/reference.md: {gone}"


def test_every_open_inference_path_is_in_the_reference() -> None:
    rest = importlib.import_module("clew.serving.rest")
    paths = {"/" + "/".join(parts) for parts in rest._FIXED if parts}
    assert not [path for path in paths if path not in REFERENCE]


def test_every_command_that_an_error_names_exists() -> None:
    known = set(get_command(commands()).commands)
    wrong = set()
    for node in nodes_of_source():
        hints = [word.value for word in getattr(node, "keywords", []) if word.arg == "hint"]
        for text in (text for hint in hints for text in strings_of(hint)):
            named = re.findall(r"(?<![\w./-])clew ([a-z]+)", text)
            wrong |= {text for name in named if name not in known}
    assert not wrong


# links ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", LINKED, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    text = re.sub(r"```.*?```", "", document.read_text(), flags=re.S)
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (document.parent / path).resolve() if path else document
        if not place.exists() or (anchor and anchor not in anchors_of(place)):
            wrong.append(target)
    assert not wrong, f"{document.name}: {wrong}"


def anchors_of(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.M)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}
