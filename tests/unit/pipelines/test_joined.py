"""Steps over several inputs, run: what arrives, what is skipped, what goes, what a plan says."""

from __future__ import annotations

from typing import Any

import clew

p = clew.Pipeline("p")
RAW, UNITS = p.source("raw"), p.source("units")
FILES = {"/a/1.txt": "a1", "/a/2.txt": "a2"}


def apply(lab, trees, name: str, inputs: list[Any], parameters: str, **options: Any) -> None:
    made = trees.step(inputs, parameters)
    lab.sources = ("p/raw", "p/units")
    lab.apply(lab.step(name, *made.inputs, combination=made.combination, **options))


def test_a_join_runs_pairs_and_only_those_that_changed(lab, trees) -> None:
    lab.code("def both(one: str, other: str) -> str: return one + other")
    pairs = clew.join(RAW.glob("/*/(*).txt"), UNITS.glob("/(*).txt"))
    apply(lab, trees, "both", [pairs], "one other")
    lab.put(FILES)
    lab.put({"/1.txt": "x", "/3.txt": "z"}, repo="p/units")
    lab.run()
    assert lab.output("both") == {"/a/1+1.txt": "a1x"}
    lab.put({"/2.txt": "y"}, repo="p/units")
    lab.run()
    assert lab.output("both") == {"/a/1+1.txt": "a1x", "/a/2+2.txt": "a2y"}
    assert (lab.last("both").done, lab.last("both").skipped) == (1, 1)
    lab.put({}, deletes=["/a/1.txt"])
    lab.run()
    assert lab.output("both") == {"/a/2+2.txt": "a2y"}
    assert lab.last("both").done == 0


def test_the_missing_side_of_an_outer_join_is_none_or_empty(lab, trees) -> None:
    lab.code(
        """
        from pathlib import Path
        def told(one: str, other: list[Path], third: dict[str, str], fourth: list[str] | None):
            return [one, len(other), len(third), fourth]
        """
    )
    outer = clew.join(
        RAW.glob("/*/(*).txt"),
        *[UNITS.glob(f"/(*).{suffix}") for suffix in "xyz"],
        how="outer",
    )
    apply(lab, trees, "told", [outer], "one other third fourth")
    lab.put(FILES)
    lab.run()  # although there is nothing in units yet
    assert lab.output("told") == {"/a/1.json": '["a1",0,0,null]', "/a/2.json": '["a2",0,0,null]'}
    lab.put({"/1.x": "", "/3.y": "y"}, repo="p/units")
    lab.run()
    assert lab.output("told") == {  # what has a match at all is together with it
        "/a/1+1.json": '["a1",1,0,null]',
        "/3.json": "[null,0,1,null]",
        "/a/2.json": '["a2",0,0,null]',
    }


def test_a_union_runs_with_what_there_is_and_names_what_it_makes_by_source(lab, trees) -> None:
    lab.code("def up(text: str) -> str: return text.upper()")
    either = clew.union(RAW.glob("/**", per="file"), UNITS.glob("/**", per="file"))
    apply(lab, trees, "up", [either], "text")
    lab.put({"/1.txt": "a"})
    lab.run()
    assert lab.output("up") == {"/raw/1.txt": "A"}
    lab.put({"/1.txt": "a"}, repo="p/units")
    lab.run()
    assert lab.output("up") == {"/raw/1.txt": "A", "/units/1.txt": "A"}
    assert (lab.last("up").done, lab.last("up").skipped) == (1, 1)


def test_a_step_whose_join_can_match_nothing_waits_for_data(lab, trees) -> None:
    lab.code("def both(one: str, other: str) -> str: return one + other")
    left = clew.join(RAW.glob("/*/(*).txt"), UNITS.glob("/(*).txt"), how="left")
    apply(lab, trees, "both", [left], "one other")
    lab.put({"/1.txt": "x"}, repo="p/units")
    assert lab.pipelines.jobs() == []


def test_a_group_over_two_repos_gets_lists_and_runs_where_one_of_them_changes(lab, trees) -> None:
    lab.code(
        """
        def told(ones: list[str], others: list[str]) -> str:
            return ",".join(ones) + ";" + ",".join(others)
        """
    )
    both = clew.group(RAW.glob("/(*)-*"), UNITS.glob("/(*)-*"), by="$1")
    apply(lab, trees, "told", [both], "ones others")
    lab.put({"/x-1": "1", "/x-2": "2", "/y-1": "3"})
    lab.put({"/x-1": "4", "/z-1": "5"}, repo="p/units")
    lab.run()
    assert lab.output("told") == {"/x.txt": "1,2;4", "/y.txt": "3;", "/z.txt": ";5"}
    lab.put({"/y-9": "6"}, repo="p/units")
    lab.run()
    assert lab.output("told") == {"/x.txt": "1,2;4", "/y.txt": "3;6", "/z.txt": ";5"}
    assert (lab.last("told").done, lab.last("told").skipped) == (1, 2)
    ran = [datum for datum in lab.pipelines.datums(lab.last("told").id) if datum.state == "done"]
    assert [[place for place, _ in datum.inputs] for datum in ran] == [
        ["p/raw:/y-1", "p/units:/y-9"]
    ]


def test_a_directory_that_a_pattern_matches_arrives_whole(lab, trees) -> None:
    lab.code(
        """
        from pathlib import Path
        def told(state: Path) -> list:
            return sorted(str(f.relative_to(state)) for f in state.rglob("*") if f.is_file())
        """
    )
    apply(lab, trees, "told", [RAW.glob("/*", per="match")], "state")
    lab.put({"/CA/LA/1": "", "/CA/SF": "", "/WA/2": ""})
    lab.run()
    assert lab.output("told") == {"/CA.json": '["CA/LA/1","CA/SF"]', "/WA.json": '["WA/2"]'}
    lab.put({"/CA/SD": ""})
    lab.run()
    assert lab.output("told")["/CA.json"] == '["CA/LA/1","CA/SD","CA/SF"]'
    assert (lab.last("told").done, lab.last("told").skipped) == (1, 1)


def test_a_lazy_file_is_read_when_it_is_touched_and_not_before(lab, trees) -> None:
    lab.code(
        """
        import clew
        def told(file: clew.File) -> str:
            return file.name if file.size > 9 else file.read().decode()
        """
    )
    apply(lab, trees, "told", [RAW.glob("/*", per="file")], "file")
    lab.put({"/long": "0123456789", "/short": "short", "/empty": ""})
    lab.run()
    assert lab.output("told") == {"/long.txt": "long", "/short.txt": "short", "/empty.txt": ""}


def test_a_join_whose_files_do_not_meet_says_so(lab, trees) -> None:
    lab.code("def both(one: str, other: str) -> str:\n    return one + other\n")
    pairs = clew.join(RAW.glob("/(*).txt"), UNITS.glob("/(*).txt"))
    apply(lab, trees, "both", [pairs], "one other")
    lab.put({"/a.txt": "a"})
    lab.put({"/b.txt": "b"}, repo="p/units")
    lab.run()
    assert lab.last("both").reason.endswith(" the files of its inputs do not come together.")
    lab.put({"/a.txt": "b"}, repo="p/units")
    lab.run()
    assert lab.last("both").done == 1
    assert "come together" not in lab.last("both").reason


def test_two_datums_of_a_cross_that_write_one_path_are_named_with_it(lab, trees) -> None:
    lab.code(
        """
        from pathlib import Path
        def both(one: str, other: str) -> Path:
            Path("same.txt").write_text(one + other)
            return Path("same.txt")
        """
    )
    apply(
        lab,
        trees,
        "both",
        [RAW.glob("/*", per="file"), UNITS.glob("/*", per="file")],
        "one other",
    )
    lab.put({"/1": "a"})
    lab.put({"/2": "b", "/3": "c"}, repo="p/units")
    lab.run()
    assert lab.last("both").state == "failed"
    reason = lab.last("both").reason
    assert reason.startswith("Two datums wrote /same.txt: ")
    assert "/1, /2" in reason
    assert "/1, /3" in reason


def test_a_plan_of_a_combination_says_what_happens(lab, trees) -> None:
    lab.code("def told(ones: list[str], others: list[str]) -> str: return ''")
    both = [clew.group(RAW.glob("/(*)-*"), UNITS.glob("/(*)-*"))]
    made = trees.step(both, "ones others")
    lab.sources = ("p/raw", "p/units")
    step = lab.step("told", *made.inputs, combination=made.combination)
    lab.apply(step)
    lab.put({"/x-1": "1", "/y-1": "2", "/z-1": "3"})
    lab.run()
    tree = trees_of(lab, {"/x-1": "1", "/x-2": "5", "/y-1": "2", "/w-1": "6"})
    plan = lab.pipelines.plan(lab.define(step), {("p/raw", "main"): tree})
    assert sorted(
        (one.action, one.inputs, one.reason.split(" since")[0]) for one in plan.datums
    ) == [
        ("delete", ("p/raw:/z-1",), "its files are gone"),
        ("run", ("p/raw:/w-1",), "new file"),
        ("run", ("p/raw:/x-1", "p/raw:/x-2"), "files changed"),
        ("skip", ("p/raw:/y-1",), "unchanged"),
    ]


def trees_of(lab, files: dict[str, str]) -> str:
    commit = lab.repos.commit("p/raw", {k: v.encode() for k, v in files.items()}, branch="other")
    return commit.tree
