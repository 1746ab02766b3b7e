"""Inputs mean what Pachyderm's documentation says they mean, rule by rule.

Sources are pages of github.com/pachyderm/pachyderm, ``doc/docs/master/``: ``concepts/`` stands for
``concepts/pipeline-concepts/datum/``, ``spec`` for ``reference/pipeline-spec.md``, ``ohmyglob`` for
the readme of github.com/pachyderm/ohmyglob, the library that reads its patterns. The cases are
those of the pages, or made after their sentences.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

import clew
from clew.repos import glob_match

Datum = dict[str, list[str]]

p = clew.Pipeline("p")
A, B, C = p.source("A"), p.source("B"), p.source("C")


def names(text: str) -> dict[str, str]:
    return {path: path for path in text.split()}


STATES = names(
    "/California/Los-Angeles.json /California/San-Francisco.json /Colorado/Boulder.json "
    "/Colorado/Denver.json /Washington/Seattle.json /Washington/Vancouver.json"
)
COUNTIES = STATES | names(
    "/California/LosAngeles/LosAngeles.json /California/LosAngeles/Malibu.json "
    "/California/SanDiego/LaMosa.json"
)
TESTS = names(
    "/nope1.txt /test1.txt /foo-1/nope2.txt /foo-1/test2.txt /foo-2/foo-2_1/nope3.txt "
    "/foo-2/foo-2_1/test3.txt /foo-2/foo-2_1/anothertest.txt"
)
ABC = names("/foo/bar-123/ABC.txt")
NUMBERS_A, NUMBERS_B = names("/1.txt /2.txt /3.txt"), names("/4.txt /5.txt /6.txt")
READINGS = names(" ".join(f"/ID1234/file{n}.txt" for n in range(1, 6)))
UNITS = names(" ".join(f"/file{n}.txt" for n in range(1, 9)))
LABS = names(
    "/LIPID-patientID1-labID1.txt /LIPID-patientID2-labID1.txt /LIPID-patientID1-labID2.txt "
    "/LIPID-patientID3-labID3.txt /LIPID-patientID1-labID3.txt /LIPID-patientID2-labID3.txt"
)


@dataclass(frozen=True, kw_only=True)
class Rule:
    source: str
    says: str
    inputs: tuple
    repos: dict[str, dict[str, str]]
    datums: list[Datum]
    parameters: str = "a"


def of(glob: str, **options):
    return A.glob(glob, per="match", **options)


def each(parameter: str, *groups: str) -> list[Datum]:
    return [{parameter: group.split()} for group in groups]


GLOBS = [
    Rule(
        source="concepts/glob-pattern.md, table: /",
        says="the whole repository is a single datum",
        inputs=(of("/"),),
        repos={"p/A": STATES},
        datums=each("a", " ".join(sorted(STATES))),
    ),
    Rule(
        source="concepts/glob-pattern.md, table: /*",
        says="each file at the top is a datum",
        inputs=(of("/*"),),
        repos={"p/A": NUMBERS_A},
        datums=each("a", "/1.txt", "/2.txt", "/3.txt"),
    ),
    Rule(
        source="concepts/glob-pattern.md, example: /*",
        says="one datum per state: all cities of a state are processed together",
        inputs=(of("/*"),),
        repos={"p/A": STATES},
        datums=each(
            "a",
            "/California/Los-Angeles.json /California/San-Francisco.json",
            "/Colorado/Boulder.json /Colorado/Denver.json",
            "/Washington/Seattle.json /Washington/Vancouver.json",
        ),
    ),
    Rule(
        source="concepts/glob-pattern.md, example: /Colorado/*",
        says="files only under the /Colorado directory, one datum per city",
        inputs=(of("/Colorado/*"),),
        repos={"p/A": STATES},
        datums=each("a", "/Colorado/Boulder.json", "/Colorado/Denver.json"),
    ),
    Rule(
        source="concepts/glob-pattern.md, example: /C*",
        says="California and Colorado each define a datum",
        inputs=(of("/C*"),),
        repos={"p/A": STATES},
        datums=each(
            "a",
            "/California/Los-Angeles.json /California/San-Francisco.json",
            "/Colorado/Boulder.json /Colorado/Denver.json",
        ),
    ),
    Rule(
        source="concepts/glob-pattern.md, table: /*/*",
        says="each file and each directory in each subdirectory is a datum",
        inputs=(of("/*/*"),),
        repos={"p/A": COUNTIES},
        datums=each(
            "a",
            "/California/Los-Angeles.json",
            "/California/LosAngeles/LosAngeles.json /California/LosAngeles/Malibu.json",
            "/California/San-Francisco.json",
            "/California/SanDiego/LaMosa.json",
            "/Colorado/Boulder.json",
            "/Colorado/Denver.json",
            "/Washington/Seattle.json",
            "/Washington/Vancouver.json",
        ),
    ),
    Rule(
        source="concepts/glob-pattern.md, table: /**",
        says="each file in all directories and subdirectories is a datum",
        inputs=(of("/**"),),
        repos={"p/A": COUNTIES},
        datums=each("a", *sorted(COUNTIES)),
    ),
    Rule(
        source="concepts/glob-pattern.md, example: /**test*.txt",
        says="recursively all .txt files containing test",
        inputs=(of("/**test*.txt"),),
        repos={"p/A": TESTS},
        datums=each(
            "a",
            "/foo-1/test2.txt",
            "/foo-2/foo-2_1/anothertest.txt",
            "/foo-2/foo-2_1/test3.txt",
            "/test1.txt",
        ),
    ),
]

CROSS_AND_UNION = [
    Rule(
        source="concepts/cross-union.md, Union Input",
        says="the number of datums is the sum of those of each repo; one is seen at a time",
        inputs=(clew.union(of("/*"), B.glob("/*", per="match")),),
        repos={"p/A": NUMBERS_A, "p/B": NUMBERS_B},
        datums=each("a", "/1.txt", "/2.txt", "/3.txt", "/4.txt", "/5.txt", "/6.txt"),
    ),
    Rule(
        source="concepts/cross-union.md, Union Input; spec, Union Input",
        says="inputs with names of their own: only one of the directories is present",
        inputs=(clew.union(of("/*").named("a"), B.glob("/*", per="match").named("b")),),
        parameters="a b",
        repos={"p/A": NUMBERS_A, "p/B": NUMBERS_B},
        datums=each("a", "/1.txt", "/2.txt", "/3.txt") + each("b", "/4.txt", "/5.txt", "/6.txt"),
    ),
    Rule(
        source="spec, Union Input",
        says="each input may itself be a single datum with the glob /",
        inputs=(clew.union(of("/"), B.glob("/", per="match")),),
        repos={"p/A": NUMBERS_A, "p/B": NUMBERS_B},
        datums=each("a", "/1.txt /2.txt /3.txt", "/4.txt /5.txt /6.txt"),
    ),
    Rule(
        source="spec, Union Input",
        says="inputs do not have to be pfs inputs: a union may hold crosses",
        inputs=(clew.union(clew.cross(of("/*"), B), C),),
        parameters="a b",
        repos={"p/A": NUMBERS_A, "p/B": names("/b"), "p/C": names("/c")},
        datums=[{"a": [f"/{n}.txt"], "b": ["/b"]} for n in (1, 2, 3)] + [{"a": ["/c"]}],
    ),
    Rule(
        source="spec, Union Input",
        says="union is associative",
        inputs=(clew.union(of("/*"), clew.union(B, C)),),
        repos={"p/A": names("/1"), "p/B": names("/2"), "p/C": names("/3")},
        datums=each("a", "/1", "/2", "/3"),
    ),
    Rule(
        source="concepts/cross-union.md, Cross Input",
        says="every combination of the datums: three and three make nine",
        inputs=(of("/*"), B.glob("/*", per="match")),
        parameters="a b",
        repos={"p/A": NUMBERS_A, "p/B": NUMBERS_B},
        datums=[{"a": [f"/{m}.txt"], "b": [f"/{n}.txt"]} for m in (1, 2, 3) for n in (4, 5, 6)],
    ),
    Rule(
        source="spec, Cross Input",
        says="a cross may hold unions",
        inputs=(of("/*"), clew.union(B, C)),
        parameters="a b",
        repos={"p/A": names("/1 /2"), "p/B": names("/b"), "p/C": names("/c")},
        datums=[{"a": [f"/{m}"], "b": [f"/{n}"]} for m in (1, 2) for n in "bc"],
    ),
    Rule(
        source="spec, Cross Input",
        says="a cross product with nothing is nothing",
        inputs=(of("/*"), B.glob("/*.csv", per="match")),
        parameters="a b",
        repos={"p/A": NUMBERS_A, "p/B": NUMBERS_B},
        datums=[],
    ),
]

JOINS = [
    Rule(
        source="concepts/join.md, Example",
        says="files 1 to 5 match, 6 to 8 do not: five datums",
        inputs=(clew.join(A.glob("/*/(*).txt").on("$1"), B.glob("/(*).txt").on("$1")),),
        parameters="a b",
        repos={"p/A": READINGS, "p/B": UNITS},
        datums=[{"a": [f"/ID1234/file{n}.txt"], "b": [f"/file{n}.txt"]} for n in range(1, 6)],
    ),
    Rule(
        source="concepts/join.md, Join",
        says="what finds no match gives a job of no datums",
        inputs=(clew.join(A.glob("/(*).txt"), B.glob("/(*).txt")),),
        parameters="a b",
        repos={"p/A": NUMBERS_A, "p/B": NUMBERS_B},
        datums=[],
    ),
    Rule(
        source="concepts/join.md, Outer Joins Example",
        says="the five pairs, and the three files of parameters that had no match",
        inputs=(clew.join(A.glob("/*/(*).txt"), B.glob("/(*).txt").outer()),),
        parameters="a b",
        repos={"p/A": READINGS, "p/B": UNITS},
        datums=[{"a": [f"/ID1234/file{n}.txt"], "b": [f"/file{n}.txt"]} for n in range(1, 6)]
        + [{"b": [f"/file{n}.txt"]} for n in (6, 7, 8)],
    ),
    Rule(
        source="concepts/join.md, Outer Joins",
        says="inputs are outer independently: of both sides everything is there",
        inputs=(clew.join(A.glob("/(*)"), B.glob("/(*)"), how="outer"),),
        parameters="a b",
        repos={"p/A": names("/1 /2"), "p/B": names("/2 /3")},
        datums=[{"a": ["/1"]}, {"a": ["/2"], "b": ["/2"]}, {"b": ["/3"]}],
    ),
    Rule(
        source="concepts/join.md, Outer Joins",
        says="also in joins of more than two: without a match in all, the outer ones remain",
        inputs=(
            clew.join(A.glob("/(*)").outer(), B.glob("/(*)").outer(), C.glob("/(*)"), on="$1"),
        ),
        parameters="a b c",
        repos={"p/A": names("/1 /2 /4"), "p/B": names("/1 /2 /5"), "p/C": names("/1 /5 /6")},
        datums=[
            {"a": ["/1"], "b": ["/1"], "c": ["/1"]},
            {"a": ["/2"], "b": ["/2"]},
            {"a": ["/4"]},
            {"b": ["/5"]},
        ],
    ),
    Rule(
        source="concepts/group.md, Group (of joins)",
        says="a join has a single match from each repo: several matches are several datums",
        inputs=(clew.join(A.glob("/(*)-*"), B.glob("/(*)-*")),),
        parameters="a b",
        repos={"p/A": names("/x-1 /x-2"), "p/B": names("/x-3 /x-4 /y-5")},
        datums=[{"a": [f"/x-{m}"], "b": [f"/x-{n}"]} for m in (1, 2) for n in (3, 4)],
    ),
    Rule(
        source="concepts/join.md, Join",
        says="$1$2 must match both captures",
        inputs=(clew.join(A.glob("/(*)-(*)"), B.glob("/(*)_(*)"), on="$1$2"),),
        parameters="a b",
        repos={"p/A": names("/a-bc /x-y"), "p/B": names("/ab_c /x_y")},
        datums=[{"a": ["/x-y"], "b": ["/x_y"]}],
    ),
    Rule(
        source="spec, Join Input: glob",
        says="/file(?)(?)(?) on $2 matches files that have the same second character",
        inputs=(clew.join(A.glob("/file(?)(?)(?).txt"), B.glob("/file(?)(?)(?).txt"), on="$2"),),
        parameters="a b",
        repos={"p/A": names("/file010.txt /file020.txt"), "p/B": names("/file919.txt")},
        datums=[{"a": ["/file010.txt"], "b": ["/file919.txt"]}],
    ),
    Rule(
        source="spec, Join Input: glob",
        says="without captures a join is a cross",
        inputs=(clew.join(A.glob("/*"), B.glob("/*")),),
        parameters="a b",
        repos={"p/A": names("/1 /2"), "p/B": names("/3 /4")},
        datums=[{"a": [f"/{m}"], "b": [f"/{n}"]} for m in (1, 2) for n in (3, 4)],
    ),
    Rule(
        source="concepts/join.md, table of captures: /(*)",
        says="a pattern may match directories; then they are joined, with all that is in them",
        inputs=(clew.join(A.glob("/(*)"), B.glob("/(*).json")),),
        parameters="a b",
        repos={"p/A": ABC, "p/B": names("/foo.json /bar.json")},
        datums=[{"a": ["/foo/bar-123/ABC.txt"], "b": ["/foo.json"]}],
    ),
]

GROUPS = [
    Rule(
        source="concepts/group.md, Example",
        says="three datums: 1, 3 and 5 of patient 1; 2 and 6 of patient 2; 4 of patient 3",
        inputs=(clew.group(A.glob("/*-(*)-lab*.txt").by("$1")),),
        repos={"p/A": LABS},
        datums=each(
            "a",
            "/LIPID-patientID1-labID1.txt /LIPID-patientID1-labID2.txt "
            "/LIPID-patientID1-labID3.txt",
            "/LIPID-patientID2-labID1.txt /LIPID-patientID2-labID3.txt",
            "/LIPID-patientID3-labID3.txt",
        ),
    ),
    Rule(
        source="concepts/group.md, Group",
        says="one datum for each set of matching files across its repos",
        inputs=(clew.group(A.glob("/(*)-*"), B.glob("/(*)-*"), by="$1"),),
        parameters="a b",
        repos={"p/A": names("/x-1 /x-2 /y-1"), "p/B": names("/x-3 /z-4")},
        datums=[{"a": ["/x-1", "/x-2"], "b": ["/x-3"]}, {"a": ["/y-1"]}, {"b": ["/z-4"]}],
    ),
    Rule(
        source="concepts/group.md, Group",
        says="what finds no files gives a job of no datums",
        inputs=(clew.group(A.glob("/*-(*)-lab*.txt")),),
        repos={"p/A": NUMBERS_A},
        datums=[],
    ),
    Rule(
        source="concepts/group.md, Group",
        says="$1$2 must match both captures",
        inputs=(clew.group(A.glob("/(*)-(*)-*"), by="$1$2"),),
        repos={"p/A": names("/a-b-1 /a-b-2 /a-c-1 /ab--1")},
        datums=each("a", "/a-b-1 /a-b-2", "/a-c-1", "/ab--1"),
    ),
    Rule(
        source="spec, Group Input: glob",
        says="/file(?)(?)(?) by $2 groups by the second character alone",
        inputs=(clew.group(A.glob("/file(?)(?)(?).txt").by("$2")),),
        repos={"p/A": names("/file010.txt /file111.txt /file120.txt")},
        datums=each("a", "/file010.txt /file111.txt", "/file120.txt"),
    ),
    Rule(
        source="spec, Group Input: glob",
        says="/(*) groups files by their names",
        inputs=(clew.group(A.glob("/(*)"), B.glob("/(*)")),),
        parameters="a b",
        repos={"p/A": names("/1 /2"), "p/B": names("/1")},
        datums=[{"a": ["/1"], "b": ["/1"]}, {"a": ["/2"]}],
    ),
    Rule(
        source="spec, Group Input: glob",
        says="without captures all files are in a single group",
        inputs=(clew.group(A.glob("/*"), B.glob("/*")),),
        parameters="a b",
        repos={"p/A": names("/1 /2"), "p/B": names("/3")},
        datums=[{"a": ["/1", "/2"], "b": ["/3"]}],
    ),
    Rule(
        source="spec, Group Input",
        says="a join inside a group filters the files, and its structure is lost",
        inputs=(
            clew.group(
                clew.join(
                    A.glob("/(*)-(*).a").on("$1").by("$2"), B.glob("/(*)-(*).b").on("$1").by("$2")
                )
            ),
        ),
        parameters="a b",
        repos={
            "p/A": names("/1-x.a /2-x.a /3-y.a /4-y.a"),
            "p/B": names("/1-x.b /2-y.b /3-y.b /9-x.b"),
        },
        datums=[
            {"a": ["/1-x.a", "/2-x.a"], "b": ["/1-x.b"]},
            {"a": ["/3-y.a"], "b": ["/2-y.b", "/3-y.b"]},
        ],
    ),
]

RULES = GLOBS + CROSS_AND_UNION + JOINS + GROUPS


def of_any_order(found: list[Datum]) -> list[list[tuple[str, list[str]]]]:
    return sorted(sorted(datum.items()) for datum in found)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.source}: {rule.says}")
def test_datums_are_what_the_page_says(rule: Rule, trees) -> None:
    step = trees.step(rule.inputs, rule.parameters)
    found = [trees.datum(unit) for unit in trees.cut(step, rule.repos).units()]
    assert of_any_order(found) == of_any_order(rule.datums)


CAPTURES = [
    ("concepts/join.md, captures", "/(*)", "/foo", ("foo",)),
    ("concepts/join.md, captures", "/*/bar-(*)", "/foo/bar-123", ("123",)),
    ("concepts/join.md, captures", "/(*)/*/(??)*.txt", "/foo/bar-123/ABC.txt", ("foo", "AB")),
    ("concepts/join.md, captures", "/*/(bar-(123))/*", "/foo/bar-123/ABC.txt", ("bar-123", "123")),
    ("ohmyglob, Example", "test/a*(a|b)/*(*).go", "/test/aaaa/x.go", ("aaa", "x")),
]


@pytest.mark.parametrize(("source", "pattern", "path", "captures"), CAPTURES)
def test_captures_are_numbered_by_their_opening_brackets(source, pattern, path, captures) -> None:
    assert glob_match(pattern).match(path) == captures, source


WORDS = ["", "a", "aa", "aaa", "aaX", "bbb"]
EXTENDED = {
    "@(a)": ["a"],
    "*(a)": ["", "a", "aa", "aaa"],
    "+(a)": ["a", "aa", "aaa"],
    "?(a)": ["", "a"],
    "!(a)": ["", "aa", "aaa", "aaX", "bbb"],
    "?aa": ["aaa"],
    "[ab]*": ["a", "aa", "aaa", "aaX", "bbb"],
    "[!a]*": ["bbb"],
    "[a-c]a": ["aa"],
    "{aa,b*}": ["aa", "bbb"],
}


@pytest.mark.parametrize("pattern", EXTENDED)
def test_patterns_match_what_the_readme_of_ohmyglob_says(pattern: str) -> None:
    glob = glob_match("/" + pattern)
    assert [word for word in WORDS if glob.match("/" + word) is not None] == EXTENDED[pattern]
