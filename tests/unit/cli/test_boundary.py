"""The end of every command: an error with a code and a next step, never a traceback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from clew.base.records import Datum
from clew.cli import app as cli
from clew.cli import data, render, work
from clew.cli.frame import EXIT_CODES


def run(monkeypatch, capsys, *arguments: str) -> tuple[object, str]:
    monkeypatch.setattr(sys, "argv", ["clew", *arguments, "--json"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    assert said.out == ""
    return ended.value.code, said.err


def test_what_the_system_refuses_is_an_error_with_the_path(monkeypatch, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    code, out = run(monkeypatch, capsys, "init", str(tmp_path / "file" / "below"))
    error = json.loads(out)["error"]
    assert code == EXIT_CODES["unavailable"]
    assert error["code"] == "system.refused"
    assert str(tmp_path / "file") in error["message"]


@pytest.mark.parametrize("rows", ["5", '["x"]', "[null]", "not json"])
def test_rows_that_are_none_are_refused_before_a_server_is_asked(monkeypatch, capsys, rows):
    code, out = run(monkeypatch, capsys, "predict", "anything", rows)
    assert code == EXIT_CODES["invalid"]
    assert json.loads(out)["error"]["code"] == "predict.rows"


@pytest.mark.parametrize(
    "arguments",
    [["models", "--nope"], ["nope"], ["put"], ["jobs", "-n", "many"], ["server", "--port", "-1"]],
)
def test_a_wrong_call_is_an_error_like_any_other_for_programs(monkeypatch, capsys, arguments):
    code, said = run(monkeypatch, capsys, *arguments)
    error = json.loads(said)["error"]
    assert (code, error["kind"], error["code"]) == (2, "invalid", "command.usage")
    assert error["message"]
    assert error["hint"].startswith("See clew ")


@pytest.mark.parametrize("number", [0, 1, 2, 1000])
def test_one_is_singular(number):
    expected = {1: "1 file", 1000: "1,000 files"}.get(number, f"{number} files")
    assert render.amount(number, "file") == expected


def test_a_stopped_command_says_what_stays(monkeypatch, capsys):
    def stop() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(data, "workspace", stop)
    monkeypatch.setattr(sys, "argv", ["clew", "repos"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == cli.INTERRUPTED
    assert "clew wait" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["-1", "65536"])
def test_a_port_that_is_none_is_refused_and_not_replaced(monkeypatch, capsys, port):
    code, _ = run(monkeypatch, capsys, "server", "--port", port)
    assert code == EXIT_CODES["invalid"]


def test_a_datum_that_is_done_shows_the_rules_it_did_not_keep(capsys):
    evidence = {"rows": 6, "quarantined": 3, "expectations": [{"message": "v should be small"}]}
    datum = Datum(
        id="d" * 16, job="j" * 16, key="", state="done", reason="new file",
        inputs=(("p/s:/a.csv", ""),), duration_s=0.1, evidence=evidence,
    )  # fmt: skip
    work.print_datums([datum])
    assert "new file; 3 rows in quarantine; v should be small" in capsys.readouterr().out


def test_help_loads_no_records_and_no_library_of_the_rooms():
    code = "import sys, clew.cli.app; print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"clew.base.records", "sqlalchemy", "pydantic", "numpy", "pyarrow", "duckdb", "msgspec"}
    assert heavy.isdisjoint(ended.stdout.split())


def test_a_workspace_loads_no_library_of_tables_before_somebody_asks_for_rows():
    code = "import sys, clew.workspace.workspace; print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"numpy", "pyarrow", "duckdb", "polars", "pandas", "optuna", "clew.base.records.cards"}
    assert heavy.isdisjoint(ended.stdout.split())


PANELS = (cli.DAILY, cli.DATA, cli.WORK, cli.MODELS)


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_the_first_help_tells_each_command_as_the_whole_tree_does(words):
    told = CliRunner().invoke(cli.tree(words), words).output
    whole = CliRunner().invoke(cli.tree(), words).output
    assert told == whole
    assert set(cli.COMMANDS) <= set(told.split())
    assert [line for line in told.splitlines() if line in {f"{panel}:" for panel in PANELS}] == [
        f"{panel}:" for panel in PANELS
    ]


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_a_command_is_itself_when_it_alone_is_loaded(name):
    alone = CliRunner().invoke(cli.tree([name]), [name, "--help"])
    whole = CliRunner().invoke(cli.tree(), [name, "--help"])
    assert (alone.exit_code, alone.stdout) == (0, whole.stdout)


def test_a_shell_completes_options_and_commands():
    def ask(words: str) -> str:
        at = str(len(words.split(" ")) - 1)
        said = {"_CLEW_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": at}
        return subprocess.run(
            [Path(sys.executable).parent / "clew"], env={**os.environ, **said}, capture_output=True,
            text=True, check=False,
        ).stdout  # fmt: skip

    assert "backtest" in ask("clew back").split()
    assert "--dry-run" in ask("clew merge --dr").split()
