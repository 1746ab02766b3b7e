"""Datums of nested inputs: those of a plain model, from scratch and by what has changed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import clew
from clew.base.errors import Invalid

p = clew.Pipeline("p")
NODES = {name: p.source(name) for name in "ABC"}

REGEX = {
    "/**": r"/.*",
    "/*": r"/[^/]*",
    "/(*)-(*).x": r"/([^/]*)-([^/]*)\.x",
    "/(*)/*": r"/([^/]*)/[^/]*",
    "/(*)": r"/([^/]*)",
    "/(?)*": r"/([^/])[^/]*",
    "/**/(?)-(*)": r"/(?:.*/)?([^/])-([^/]*)",
    "/{a,b}/([12])-*": r"/(?:a|b)/([12])-[^/]*",
}
PATTERNS = sorted(REGEX)
CAPTURES = {pattern: re.compile(regex).groups for pattern, regex in REGEX.items()}

Files = dict[str, str]
Found = dict[str, frozenset[tuple[str, str]]]
"""Files by parameter."""


@dataclass(frozen=True)
class Leaf:
    repo: str
    pattern: str
    per: str
    key: str = ""
    outer: bool = False


@dataclass(frozen=True)
class Node:
    how: str
    parts: tuple[Leaf | Node, ...]


def given_to_clew(one: Leaf | Node):
    if isinstance(one, Node):
        return getattr(clew, one.how)(*map(given_to_clew, one.parts))
    made = NODES[one.repo].glob(one.pattern, per=one.per)
    made = made.on(one.key) if one.key else made
    return made.outer() if one.outer else made


# the model ----------------------------------------------------------------------------------


def width(one: Leaf | Node) -> int:
    if isinstance(one, Leaf):
        return 1
    widths = [width(part) for part in one.parts]
    return max(widths) if one.how == "union" else sum(widths)


def groups(leaf: Leaf, repos: dict[str, Files]) -> dict[str, Files]:
    """Files by place, straight from the definition."""
    regex = re.compile(REGEX[leaf.pattern])
    found: dict[str, Files] = {}
    for path, text in repos[leaf.repo].items():
        match = regex.fullmatch(path)
        if leaf.per == "match":
            ends = [m.start() for m in re.finditer("/", path)][1:]
            above = [] if "**" in leaf.pattern.split("/")[-1] else [path[:end] for end in ends]
            place = next((one for one in [*above, path] if regex.fullmatch(one)), None)
        elif match is None:
            place = None
        else:
            directory = path.rpartition("/")[0] or "/"
            captured = "\n".join(match.groups())
            place = {"file": path, "repo": "", "directory": directory, "capture": captured}[
                leaf.per
            ]
        if place is not None:
            found.setdefault(place, {})[path] = text
    return found


def key(leaf: Leaf, place: str) -> tuple[str, ...]:
    captures = re.compile(REGEX[leaf.pattern]).fullmatch(place).groups()
    return tuple(captures[int(n) - 1] for n in re.findall(r"\$(\d)", leaf.key)) or captures


def elements(one, repos, first: int) -> Iterator[tuple[Found, list]]:
    """Files by parameter, and the leaf, place and files of each group."""
    if isinstance(one, Leaf):
        for place, files in groups(one, repos).items():
            yield {f"p{first}": frozenset(files.items())}, [(one, place, files, first)]
        return
    starts = [first]
    for part in one.parts:
        starts.append(starts[-1] if one.how == "union" else starts[-1] + width(part))
    parts = [list(elements(part, repos, at)) for part, at in zip(one.parts, starts, strict=False)]
    if one.how == "union":
        yield from (element for part in parts for element in part)
    elif one.how == "cross":
        yield from map(merged, product(*parts))
    elif one.how == "join":
        of = [[(key(*e[1][0][:2]), e) for e in part] for part in parts]
        for tag in {tag for part in of for tag, _ in part}:
            rows = [[e for t, e in part if t == tag] for part in of]
            if not all(rows):
                rows = [[e for e in row if e[1][0][0].outer] for row in rows]
                rows = [row for row in rows if row]
            yield from map(merged, product(*rows) if rows else ())
    else:
        every = [group for part in parts for element in part for group in element[1]]
        for tag in {key(leaf, place) for leaf, place, _, _ in every}:
            found: dict[str, dict[str, str]] = {}
            for leaf, place, files, at in every:
                if key(leaf, place) == tag:
                    found.setdefault(f"p{at}", {}).update(files)
            yield {name: frozenset(files.items()) for name, files in found.items()}, []


def merged(some) -> tuple[Found, list]:
    return (
        {name: files for found, _ in some for name, files in found.items()},
        [group for _, told in some for group in told],
    )


# what is tried ------------------------------------------------------------------------------

repo_names = st.sampled_from("ABC")
pers = st.sampled_from(["file", "repo", "directory", "capture", "match"])
leaves = st.builds(Leaf, repo_names, st.sampled_from(PATTERNS), pers).filter(
    lambda leaf: leaf.per != "capture" or CAPTURES[leaf.pattern]
)


def keyed_leaves(tag: str):
    needed = tag.count("$")
    patterns = [pattern for pattern in PATTERNS if CAPTURES[pattern] >= needed]
    keyed = st.sampled_from(["file", "match"])
    return st.builds(
        Leaf, repo_names, st.sampled_from(patterns), keyed, st.just(tag), st.booleans()
    )


def nodes(how: str, part, least: int = 1):
    parts = st.lists(part, min_size=least, max_size=3).map(tuple)
    return st.builds(Node, st.just(how), parts)


tags = st.sampled_from(["$1", "$2$1"])
joins = tags.flatmap(
    lambda tag: nodes("join", keyed_leaves(tag) | nodes("union", keyed_leaves(tag)), 2)
)
grouped = tags.flatmap(
    lambda tag: nodes("group", keyed_leaves(tag) | nodes("join", keyed_leaves(tag), 2))
)
inputs = st.recursive(
    leaves | joins | grouped,
    lambda inner: st.builds(
        Node,
        st.sampled_from(["cross", "union"]),
        st.lists(inner, min_size=1, max_size=2).map(tuple),
    ),
    max_leaves=3,
)
paths = st.builds(
    "{}/{}-{}.{}".format,
    st.sampled_from(["", "", "/a", "/b", "/a/b"]),
    st.sampled_from("12"),
    st.sampled_from("12"),
    st.sampled_from(["x", "x", "y"]),
)
files = st.dictionaries(paths, st.sampled_from("01"), max_size=4)
repos = st.fixed_dictionaries(dict.fromkeys("ABC", files))


def told(found: Found) -> tuple:
    return tuple(sorted((name, tuple(sorted(files))) for name, files in found.items()))


@settings(max_examples=120, suppress_health_check=list(HealthCheck))
@given(inputs, repos, repos, st.sampled_from(["A", "AB", "ABC"]))
@example(
    Node("join", (Leaf("A", "/(*)", "match", "$1"), Leaf("B", "/(*)", "match", "$1", True))),
    {"A": {"/1-1.x": "0"}, "B": {"/1-1.x": "0"}, "C": {}},
    {"A": {}, "B": {}, "C": {}},
    "A",
)
def test_datums_are_those_of_the_model_and_found_by_difference(
    trees, one, before, after, moved
) -> None:
    step = trees.step([given_to_clew(one)], " ".join(f"p{n}" for n in range(width(one))))
    now = {name: after[name] if name in moved else before[name] for name in before}
    old_cut, new_cut = (
        trees.cut(step, {f"p/{name}": files for name, files in some.items()})
        for some in (before, now)
    )
    old, new = list(old_cut.units()), list(new_cut.units())
    for units, some in ((old, before), (new, now)):
        model = [told(found) for found, _ in elements(one, some, 0)]
        mine = [
            told({g.input.parameter: frozenset(texts(g, trees)) for g in u.groups if not g.missing})
            for u in units
        ]
        assert sorted(mine) == sorted(model)
        assert len({unit.key for unit in units}) == len(units)
        assert len({unit.place for unit in units}) == len(units)
    if new_cut.differs_wholly(old_cut):
        assert isinstance(one, Leaf)
        assert one.per == "repo"
        assert not {unit.key for unit in old} & {unit.key for unit in new}
    gone, came = ({unit.key for unit in some} for some in new_cut.changed_units(old_cut))
    assert gone == {unit.key for unit in old} - {unit.key for unit in new}
    assert came == {unit.key for unit in new} - {unit.key for unit in old}


def texts(group, trees) -> Iterator[tuple[str, str]]:
    return ((path, trees.store.read(digest).decode()) for path, digest in group.files)


# what is refused ----------------------------------------------------------------------------

A, B, C = NODES["A"], NODES["B"], NODES["C"]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: clew.union(), "no inputs"),
        (lambda: clew.join(A.glob("/(*)-(*)"), B.glob("/(*)")), "compares 1 captures"),
        (lambda: clew.join(clew.cross(A, B), C), "cannot have a cross"),
        (lambda: clew.join(A.glob("/(*)", per="directory"), B.glob("/(*)")), "per='directory'"),
        (lambda: clew.join(A.glob("/(*)"), B.glob("/(*)"), how="full"), "how='full'"),
        (lambda: A.glob("/*", per="row"), "per='row'"),
    ],
)
def test_a_combination_that_cannot_be_is_refused_where_it_is_written(make, says) -> None:
    with pytest.raises(Invalid, match=re.escape(says)) as caught:
        make()
    assert caught.value.code == "pipeline.definition"
    assert caught.value.hint


@pytest.mark.parametrize(
    ("inputs", "parameters", "says"),
    [
        ([A.named("a"), B.named("a")], "a", "Two inputs of s are for 'a'"),
        ([A.named("b")], "a", "no parameter 'b'"),
        ([clew.group(clew.union(A.glob("/(*)"), B.glob("/(*)")))], "a", "Two inputs of s"),
        ([A.reference(), B], "a b", None),
        ([clew.union(A, B.reference())], "a", "is cut or in a union"),
        ([clew.join(A.glob("/(*)").reference(), B.glob("/(*)"))], "a b", "reference in a join"),
        ([A.glob("/*", per="capture")], "a", "captures nothing"),
    ],
)
def test_inputs_that_cannot_be_together_are_refused(trees, inputs, parameters, says) -> None:
    if says is None:
        assert trees.step(inputs, parameters).combination is None
        return
    with pytest.raises(Invalid, match=re.escape(says)):
        trees.step(inputs, parameters)


def test_a_key_names_what_is_captured() -> None:
    with pytest.raises(Invalid, match=r"names \$2, which '/\(\*\)' does not capture") as caught:
        A.glob("/(*)").on("$2")
    assert caught.value.code == "glob.capture"
    assert caught.value.hint == "It captures $1."
    assert A.glob("/(?P<day>*)-(*)").on("${day}/$2").on_key == "${day}/$2"


# names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "parameters", "repos", "names"),
    [
        ([A.glob("/*", per="file")], "a", {"p/A": ["/1.csv"]}, ["1"]),
        ([A], "a", {"p/A": ["/1.csv"]}, ["s"]),
        ([A.glob("/*", per="file"), B], "a b", {"p/A": ["/1"], "p/B": ["/1"]}, ["1"]),
        ([clew.union(A, B)], "a", {"p/A": ["/1"], "p/B": ["/1"]}, ["A", "B"]),
        (
            [clew.union(A.glob("/*", per="file"), B.glob("/*", per="file"))],
            "a",
            {"p/A": ["/1.x"], "p/B": ["/1.x"]},
            ["A/1", "B/1"],
        ),
        (
            [clew.union(A.glob("/1*", per="file"), A.glob("/*1", per="file"))],
            "a",
            {"p/A": ["/11"]},
            ["A/11", "A-2/11"],
        ),
        (
            [clew.join(A.glob("/(*).x"), B.glob("/(*).y"))],
            "a b",
            {"p/A": ["/1.x"], "p/B": ["/1.y"]},
            ["1"],
        ),
        (
            [clew.join(A.glob("/(*)-*.x"), B.glob("/(*).y"))],
            "a b",
            {"p/A": ["/1-a.x", "/1-b.x"], "p/B": ["/1.y"]},
            ["1-a+1", "1-b+1"],
        ),
        ([clew.group(A.glob("/*-(*).x"))], "a", {"p/A": ["/1-a.x", "/2-a.x"]}, ["a"]),
        ([A.glob("/*", per="match")], "a", {"p/A": ["/d/1.x", "/e.x"]}, ["d", "e"]),
        (
            [A.glob("/(*)_(*)", per="capture")],
            "a",
            {"p/A": ["/a-b_c", "/a_b-c", "/a_b"]},
            ["a-b", "a-b/c", "a/b-c"],
        ),
    ],
)
def test_results_are_called_after_what_they_are_made_of(
    trees, inputs, parameters, repos, names
) -> None:
    cut = trees.cut(
        trees.step(inputs, parameters),
        {repo: {path: path for path in paths} for repo, paths in repos.items()},
    )
    assert sorted(unit.name for unit in cut.units()) == sorted(names)


def test_a_key_stays_where_a_join_becomes_outer_and_where_others_join(trees) -> None:
    files = {"p/A": {"/1": "a", "/2": "b"}, "p/B": {"/1": "c"}}
    inner, outer = (
        {unit.key for unit in trees.cut(trees.step([one], "a b"), files).units()}
        for one in (
            clew.join(A.glob("/(*)"), B.glob("/(*)")),
            clew.join(A.glob("/(*)"), B.glob("/(*)"), how="left"),
        )
    )
    assert len(inner) == 1
    assert len(outer) == 2
    assert inner < outer
