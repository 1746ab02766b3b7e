"""A program gets its inputs as directories, leaves one, and nothing of it stays."""

import os
import sys
import time
from pathlib import Path

import psutil
import pytest

from clew.base.errors import ClewError, Invalid
from clew.places import (
    CommandDefinition,
    DatumOfProgram,
    Program,
    RuntimeDefinition,
    require_sandbox,
)
from clew.places.commands import expanded
from clew.places.scripts import parts_of, requirement_lines
from clew.store import Store


def _no_sandbox() -> str:
    try:
        require_sandbox()
    except ClewError as error:
        return str(error)
    return ""


NO_SANDBOX = _no_sandbox()
needs_bwrap = pytest.mark.skipif(bool(NO_SANDBOX), reason=NO_SANDBOX or "there is one")


class Bench:
    """Runs programs over files that are in a real store."""

    def __init__(self, directory: Path) -> None:
        self.store = Store.open(directory / "store")
        self.project = directory / "project"
        self.project.mkdir()
        self.root = directory / "files"
        self._programs: dict[object, Program] = {}

    def digest(self, content: bytes) -> str:
        with self.store.writer() as writer:
            return writer.put(content)[0]

    def run(
        self,
        *arguments: str,
        inputs: dict[str, dict[str, bytes]] | None = None,
        runtime: RuntimeDefinition | None = None,
        name: str = "datum",
        parameters: dict[str, object] | None = None,
        **options: object,
    ) -> dict[str, bytes]:
        command = CommandDefinition(arguments=arguments, **options)
        key = repr((command, runtime))
        if key not in self._programs:
            self._programs[key] = Program(
                command,
                runtime or RuntimeDefinition(),
                self.store,
                root=self.root,
                project=self.project,
            )
        given = {
            parameter: [(path, self.digest(content)) for path, content in files.items()]
            for parameter, files in (inputs or {}).items()
        }
        datum = DatumOfProgram(
            name=name,
            inputs=given,
            parameters=parameters or {},
            variables={"CLEW_DATUM": "d1"},
        )
        kept = self._programs[key].run(datum)
        return {path: self.store.read(digest) for path, digest, _ in kept}

    def shell(self, text: str, **options: object) -> dict[str, bytes]:
        return self.run(text, shell=True, **options)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def refused(code: str, act: object, *arguments: object, **options: object) -> ClewError:
    with pytest.raises(ClewError) as raised:
        act(*arguments, **options)
    assert raised.value.code == code, raised.value
    return raised.value


def test_inputs_are_directories_and_what_is_left_is_the_output(bench: Bench) -> None:
    found = bench.shell(
        'mkdir -p "$CLEW_OUTPUT/up"; tr a-z A-Z < "$CLEW_INPUT_raw/a/1.txt" > $CLEW_OUTPUT/up/1;'
        " cp $CLEW_INPUT_ref/* $CLEW_OUTPUT",
        inputs={"raw": {"/a/1.txt": b"one"}, "ref": {"/r": b"reference"}},
    )
    assert found == {"/up/1": b"ONE", "/r": b"reference"}


def test_a_program_learns_datum_and_parameters_from_its_environment(bench: Bench) -> None:
    found = bench.shell(
        "echo $CLEW_DATUM $CLEW_DATUM_NAME $CLEW_PARAMETER_depth $OWN > $CLEW_OUTPUT/x;"
        " printf '%s' \"$CLEW_PARAMETERS\" > $CLEW_OUTPUT/all.json",
        name="2013/07",
        parameters={"depth": 3, "kind": "fast"},
        environment={"OWN": "mine"},
    )
    assert found["/x"] == b"d1 2013/07 3 mine\n"
    assert found["/all.json"] == b'{"depth": 3, "kind": "fast"}'


def test_settings_of_clew_do_not_reach_a_program(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLEW_TOKEN", "secret")
    assert bench.shell("env > $CLEW_OUTPUT/env")["/env"].find(b"secret") == -1


def test_arguments_take_variables_but_code_does_not(bench: Bench) -> None:
    hostile = {"raw": {"/$(touch pwned).txt": b"x"}}
    assert bench.run("cp", "$CLEW_FILE_raw", "${CLEW_OUTPUT}/got", inputs=hostile) == {"/got": b"x"}
    found = bench.run("sh", "-ec", 'cp "$CLEW_FILE_raw" $CLEW_OUTPUT; ls > $CLEW_OUTPUT/here',
                      inputs=hostile)  # fmt: skip
    assert found == {"/$(touch pwned).txt": b"x", "/here": b""}
    kept = ["timeout", "9", "python3.11", "-c", "$CLEW_X"]
    assert expanded(kept, {"CLEW_X": "v"}) == kept
    assert expanded(["gzip", "-c", "$CLEW_X"], {"CLEW_X": "v"}) == ["gzip", "-c", "v"]


def test_files_of_the_project_are_where_a_program_starts(bench: Bench) -> None:
    (bench.project / "lib").mkdir()
    (bench.project / "lib" / "say.sh").write_text("echo said > $CLEW_OUTPUT/x\n")
    (bench.project / "main.sh").write_text(". ./lib/say.sh; echo new > made-here\n")
    assert bench.run("sh", "main.sh") == {"/x": b"said\n"}
    assert sorted(path.name for path in bench.project.iterdir()) == ["lib", "main.sh"]


def test_an_exit_code_that_is_not_accepted_tells_the_last_words(bench: Bench) -> None:
    error = refused("step.exit", bench.run, "sh", "-c", "exit 4")
    assert "exit code 4" in error.message
    assert bench.shell("echo fine > $CLEW_OUTPUT/x; exit 1", exit_codes=(0, 1))
    killed = refused("step.exit", bench.shell, "kill -SEGV $$")
    assert "SIGSEGV" in killed.message


def test_a_program_that_is_not_there_is_named(bench: Bench) -> None:
    assert "no-such-thing" in refused("step.program", bench.run, "no-such-thing").message
    (bench.project / "plain").write_text("echo\n")
    assert "#!" in refused("step.program", bench.run, "./plain").hint


def test_standard_input_is_fed_and_standard_output_becomes_a_file(bench: Bench) -> None:
    found = bench.run(
        "tr", "a-z", "A-Z", inputs={"raw": {"/1": b"one ", "/2": b"two"}},
        stdin="raw", stdout="{name}.txt", name="all",
    )  # fmt: skip
    assert found == {"/all.txt": b"ONE TWO"}
    assert bench.run("true", inputs={"raw": {"/1": b"x" * 300_000}}, stdin="raw") == {}


def test_named_pipes_carry_inputs_and_may_be_left_alone(bench: Bench) -> None:
    content = os.urandom(3_000_000)
    found = bench.shell(
        "test -p $CLEW_FILE_raw && cat $CLEW_FILE_raw > $CLEW_OUTPUT/copy",
        inputs={"raw": {"/big": content}}, pipes=("raw",),
    )  # fmt: skip
    assert found == {"/copy": content}
    assert bench.shell("true", inputs={"raw": {"/big": content}}, pipes=("raw",)) == {}
    few = bench.shell("head -c 5 $CLEW_FILE_raw > $CLEW_OUTPUT/x",
                      inputs={"raw": {"/big": content}}, pipes=("raw",))  # fmt: skip
    assert few == {"/x": content[:5]}


def test_what_a_program_does_to_its_inputs_reaches_no_other_datum(bench: Bench) -> None:
    text = (
        "cat $CLEW_INPUT_ref/r >> $CLEW_OUTPUT/seen; ls $CLEW_INPUT_ref >> $CLEW_OUTPUT/seen;"
        " chmod u+w $CLEW_INPUT_ref/r; echo changed > $CLEW_INPUT_ref/r; touch $CLEW_INPUT_ref/more"
    )
    for _ in range(2):
        found = bench.shell(text, inputs={"ref": {"/r": b"as it was\n"}})
        assert found == {"/seen": b"as it was\nr\n"}


def test_an_input_that_stays_the_same_is_laid_out_once(bench: Bench) -> None:
    text = "stat -c %i $CLEW_INPUT_ref/r > $CLEW_OUTPUT/ref; cat $CLEW_INPUT_raw/* > $CLEW_OUTPUT/x"
    first, second = (
        bench.shell(text, inputs={"ref": {"/r": b"reference"}, "raw": {"/1": content}})
        for content in (b"1", b"2")
    )
    assert first["/ref"] == second["/ref"]
    assert (first["/x"], second["/x"]) == (b"1", b"2")


def test_links_count_as_their_file_unless_they_lead_elsewhere(bench: Bench) -> None:
    found = bench.shell("ln -s $CLEW_FILE_raw $CLEW_OUTPUT/link", inputs={"raw": {"/1": b"one"}})
    assert found == {"/link": b"one"}
    assert "elsewhere" in str(
        refused("step.output", bench.shell, "ln -s /etc/hostname $CLEW_OUTPUT")
    )
    refused("step.output", bench.shell, "mkfifo $CLEW_OUTPUT/pipe")
    refused("step.output", bench.shell, "ln -s nothing $CLEW_OUTPUT/dangling")


def test_a_file_written_twice_is_refused(bench: Bench) -> None:
    refused("step.stdout", bench.shell, "echo 1 > $CLEW_OUTPUT/x", stdout="x")


def test_nothing_that_a_program_started_goes_on(bench: Bench) -> None:
    found = bench.shell("sleep 1000 & echo $! > $CLEW_OUTPUT/pid")
    pid = int(found["/pid"])
    until = time.monotonic() + 30
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until
        time.sleep(0.01)


@needs_bwrap
def test_a_sandbox_shows_the_inputs_and_nothing_of_the_workspace(bench: Bench) -> None:
    secret = bench.root.parent / "secret"
    secret.write_text("s")
    (bench.project / "a.sh").write_text("cat /pfs/raw/1 > /pfs/out/x; cp a.sh /pfs/out\n")
    found = bench.shell(
        "sh a.sh; ls /pfs > $CLEW_OUTPUT/pfs; echo > /tmp/mine;"
        f" test ! -e {secret} && test ! -e {bench.store.address} && touch $CLEW_OUTPUT/hidden;"
        " touch /usr/x 2>/dev/null || touch $CLEW_OUTPUT/read-only;"
        " touch /pfs/raw/2 2>/dev/null || touch $CLEW_OUTPUT/inputs-too;"
        " ls /sys/class/net 2>/dev/null; cat /proc/net/dev | tail -n +3 | wc -l > /pfs/out/nets",
        inputs={"raw": {"/1": b"one"}},
        runtime=RuntimeDefinition(sandbox=True),
    )
    assert sorted(found) == [
        "/a.sh", "/hidden", "/inputs-too", "/nets", "/pfs", "/read-only", "/x",
    ]  # fmt: skip
    assert found["/x"] == b"one"
    assert found["/pfs"] == b"out\nraw\n"
    assert found["/nets"].strip() == b"1"  # the loopback alone


@needs_bwrap
def test_a_sandbox_takes_pipes_standard_streams_and_exit_codes(bench: Bench) -> None:
    closed = RuntimeDefinition(sandbox=True)
    found = bench.shell("cat $CLEW_FILE_raw", inputs={"raw": {"/1": b"one"}}, pipes=("raw",),
                        stdout="x", runtime=closed)  # fmt: skip
    assert found == {"/x": b"one"}
    assert "exit code 7" in refused("step.exit", bench.shell, "exit 7", runtime=closed).message


def test_a_sandbox_without_bubblewrap_says_what_to_install(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(bench.project))
    error = refused("sandbox.missing", bench.run, "x", runtime=RuntimeDefinition(sandbox=True))
    assert "bubblewrap" in error.hint


def test_an_output_of_many_megabytes_needs_little_memory(bench: Bench) -> None:
    before = psutil.Process().memory_info().rss
    code = "import os\nfor n in range(192): os.write(1, n.to_bytes(4) * (1 << 18))"
    runtime, command = RuntimeDefinition(), CommandDefinition(
        arguments=(sys.executable, "-S", "-c", code), stdout="big"
    )  # fmt: skip
    program = Program(command, runtime, bench.store, root=bench.root, project=bench.project)
    ((_, _, size),) = program.run(DatumOfProgram(name="d", inputs={}))
    assert size == 192 << 20
    assert psutil.Process().memory_info().rss - before < 150 << 20


# what counts as its code -----------------------------------------------------------------------


def test_the_files_that_a_command_names_and_those_they_name_are_its_code(tmp_path: Path) -> None:
    for name, text in {
        "clean.R": 'source("R/helpers.R")\n',
        "R/helpers.R": "x <- 1\n",
        "run.py": "from pkg import tools\nimport other\n",
        "pkg/__init__.py": "",
        "pkg/tools.py": "",
        "other.py": "",
        "unrelated.R": "",
        "notes.md": "",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert set(parts_of(tmp_path, ["Rscript", "./clean.R"])) == {"clean.R", "R/helpers.R"}
    shell = parts_of(tmp_path, ["python3 run.py < $CLEW_FILE_x"])
    assert set(shell) == {"run.py", "other.py", "pkg/__init__.py", "pkg/tools.py"}
    assert set(parts_of(tmp_path, ["ls", "R"])) == {"R/helpers.R"}
    before = parts_of(tmp_path, ["Rscript", "clean.R"])
    (tmp_path / "R" / "helpers.R").write_text("x <- 2\n")
    assert parts_of(tmp_path, ["Rscript", "clean.R"]) != before
    assert parts_of(tmp_path, ["awk", "{print $1}"]) == {}


def test_a_requirements_file_stands_for_its_lines(tmp_path: Path) -> None:
    (tmp_path / "req").mkdir()
    (tmp_path / "req" / "a.txt").write_text("# pins\nsix==1.16.0  \n-r b.txt\n\n")
    (tmp_path / "req" / "b.txt").write_text("idna ; python_version > '3'\n")
    assert list(requirement_lines(tmp_path, ["-r req/a.txt", "attrs"])) == [
        "six==1.16.0", "idna ; python_version > '3'", "attrs",
    ]  # fmt: skip
    for wrong in ("-r none.txt", "-r ../secret.txt"):
        with pytest.raises(Invalid, match="no requirements file"):
            list(requirement_lines(tmp_path, [wrong]))
