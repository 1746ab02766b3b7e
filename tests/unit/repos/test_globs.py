from __future__ import annotations

import fnmatch
import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.base.errors import Invalid
from clew.repos import glob_match

CASES = [
    ("/*.parquet", ["/a.parquet", "/.parquet"], ["/a/b.parquet", "/a.parquet.gz", "a.parquet"]),
    ("*.csv", ["/a.csv"], ["/x/a.csv"]),
    ("/**", ["/a", "/a/b/c"], []),
    ("/**/x", ["/x", "/a/x", "/a/b/x"], ["/ax", "/x/y"]),
    ("/a/**/b/*.csv", ["/a/b/1.csv", "/a/x/y/b/1.csv"], ["/a/b/c/1.csv", "/ab/1.csv"]),
    ("/a/", ["/a/x", "/a/x/y"], ["/a", "/b/x"]),
    ("/a**z", ["/az", "/a/b/z"], ["/a/b"]),
    ("/?.txt", ["/a.txt", "/ü.txt"], ["/ab.txt", "//.txt", "/.txt"]),
    ("/[a-c]1", ["/a1", "/c1"], ["/d1", "/-1"]),
    ("/[!a-c]1", ["/d1"], ["/a1", "//1"]),
    ("/[^a]", ["/b"], ["/a"]),
    ("/[]]", ["/]"], ["/["]),
    ("/[a/]x", ["/ax"], ["//x"]),
    ("/[-a]", ["/-", "/a"], ["/b"]),
    ("/{a,b*}.csv", ["/a.csv", "/b.csv", "/bcd.csv"], ["/c.csv", "/a,b.csv"]),
    ("/{a,{b,c}d}", ["/a", "/bd", "/cd"], ["/b", "/d"]),
    ("/{,x}y", ["/y", "/xy"], ["/xxy"]),
    ("/!(a)", ["/b", "/aa", "/"], ["/a"]),
    ("/!(a|b).csv", ["/c.csv", "/ab.csv"], ["/a.csv", "/b.csv", "/c/d.csv"]),
    ("/!(*.tmp)", ["/a.csv"], ["/a.tmp", "/b/a.csv"]),
    ("/x!(1)*.csv", ["/x2.csv", "/x.csv"], ["/x1.csv", "/y.csv"]),
    ("/!(a)/b", ["/c/b"], ["/a/b"]),
    ("/\\*", ["/*"], ["/a"]),
    ("/a.b+c$", ["/a.b+c$"], ["/aXb+c$", "/a.bbc$"]),
    ("/ü/名*", ["/ü/名前"], ["/u/名前"]),
    ("/!x", ["/!x"], ["/x"]),
]


@pytest.mark.parametrize(("pattern", "yes", "no"), CASES)
def test_a_pattern_matches_what_the_grammar_says(pattern, yes, no):
    glob = glob_match(pattern)
    assert [path for path in yes if glob.match(path) is None] == []
    assert [path for path in no if glob.match(path) is not None] == []


def test_round_brackets_capture_in_their_order():
    glob = glob_match("/(*)-({a,b})/(20??)*.csv")
    assert glob.groups == 3
    assert glob.match("/x-a/2013-07.csv") == ("x", "a", "2013")
    assert glob.match("/x-c/2013-07.csv") is None
    assert glob_match("/(a|b)").match("/b") == ("b",)
    assert glob_match("/((*)-*).csv").match("/x-y.csv") == ("x-y", "x")
    assert glob_match("/{(a),b}").match("/b") == ("",)
    assert glob_match("/!(a)-(*).csv").match("/b-c.csv") == ("b", "c")
    assert glob_match("/*").match("/a") == ()


def test_a_pattern_knows_the_directory_below_which_its_matches_lie():
    assert glob_match("/a/b/*.csv").directory == "/a/b"
    assert glob_match("/a/b*/c").directory == "/a"
    assert glob_match("/a/b/c").directory == "/a/b"
    assert glob_match("/a/b/").directory == "/a/b"
    assert glob_match("/**").directory == "/"
    assert glob_match("/a!(b)").directory == "/"


@pytest.mark.parametrize("pattern", ["/[a", "/(a", "/{a,b", "/!(a", "/a\\", "/[]", "/[z-a]"])
def test_a_pattern_that_cannot_be_read_is_refused(pattern):
    with pytest.raises(Invalid) as caught:
        glob_match(pattern)
    assert caught.value.code == "glob.invalid"


simple = st.text(st.sampled_from("ab*?"), max_size=8)


@given(pattern=simple.filter(lambda p: "**" not in p), name=st.text("ab", max_size=8))
def test_without_slashes_it_agrees_with_the_shell(pattern, name):
    assert (glob_match("/x" + pattern).match("/x" + name) is not None) == fnmatch.fnmatchcase(
        "x" + name, "x" + pattern
    )


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
def test_every_path_is_matched_by_itself_escaped(path):
    pattern = "/" + "".join("\\" + character for character in path)
    assert glob_match(pattern).match("/" + path) == ()


# the whole grammar against an independent reading of it --------------------------------------


def plain(texts):
    """Pairs of a pattern and the texts that it means, over the letters a and b."""
    return texts.map(lambda text: (text, {text}))


def some_of(pairs, between, shape):
    pattern = shape.format(between.join(text for text, _ in pairs))
    return pattern, set().union(*(words for _, words in pairs))


WORDS = {"".join(word) for size in range(5) for word in product("ab/", repeat=size)}
SEGMENTS = {word for word in WORDS if "/" not in word}


def then(first, second):
    """One pattern behind the other: all words that are a word of the one and one of the other."""
    return first[0] + second[0], {
        word
        for word in WORDS
        if any(word[:at] in first[1] and word[at:] in second[1] for at in range(len(word) + 1))
    }


def repeated(words, least):
    found = {""} if least == 0 else set(words & WORDS)
    while True:
        more = {a + b for a in found for b in words if a + b in WORDS} | found | (words & WORDS)
        if more == found:
            return found | ({""} if least == 0 else set())
        found = more


atoms = st.one_of(
    plain(st.sampled_from(["a", "b"])),
    st.just(("?", {"a", "b"})),
    st.just(("*", SEGMENTS)),
    st.just(("[ab]", {"a", "b"})),
    st.just(("[!a]", {"b"})),
    st.just(("[^b]", {"a"})),
    st.just(("[a-b]", {"a", "b"})),
    st.just(("[[:lower:]]", {"a", "b"})),
    st.just(("\\a", {"a"})),
    st.just(("/", {"/"})),
)
grammar = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda some: some_of(some, ",", "{{{}}}")),
        st.lists(inner, min_size=1, max_size=3).map(lambda some: some_of(some, "|", "@({})")),
        st.lists(inner, min_size=1, max_size=2)
        .map(lambda some: some_of(some, "|", "?({})"))
        .map(lambda pair: (pair[0], pair[1] | {""})),
        st.lists(inner, min_size=1, max_size=2)
        .map(lambda some: some_of(some, "|", "*({})"))
        .map(lambda pair: (pair[0], repeated(pair[1], 0))),
        st.lists(inner, min_size=1, max_size=2)
        .map(lambda some: some_of(some, "|", "+({})"))
        .map(lambda pair: (pair[0], repeated(pair[1], 1))),
        st.tuples(inner, inner).map(lambda pair: then(*pair)),
    ),
    max_leaves=5,
).filter(lambda pair: "**" not in pair[0])  # which means more than one run behind another


@given(grammar)
def test_a_pattern_means_the_words_that_its_parts_mean(pair):
    pattern, words = pair
    glob = glob_match("/x" + pattern + "x")
    assert {word for word in WORDS if glob.match(f"/x{word}x") is not None} == words & WORDS


@given(st.lists(grammar, min_size=1, max_size=2))
def test_a_negation_means_all_other_runs(pairs):
    pattern, words = some_of(pairs, "|", "!({})")
    glob = glob_match("/x" + pattern)
    found = {word for word in WORDS if glob.match(f"/x{word}") is not None}
    assert found == SEGMENTS - words


short = grammar.filter(lambda pair: len(pair[0]) <= 8)


@given(short, short)
def test_a_capture_is_what_its_bracket_matched(first, second):
    glob = glob_match(f"/@({first[0]})-({second[0]})")
    groups = glob_match(f"/{first[0]}").groups
    for one in sorted(first[1] & WORDS)[:5]:
        for other in sorted(second[1] & WORDS)[:5]:
            captures = glob.match(f"/{one}-{other}")
            assert captures is not None
            assert (captures[0], captures[groups + 1]) == (one, other)


sets = st.sampled_from(
    ["[ab]", "[!a]", "[]a]", "[!]a]", "[a-]", "[-a]", "[*?]", "[a-c^]", "*", "?", "a"]
)


@given(st.lists(sets, max_size=4).filter(lambda some: "**" not in "".join(some)))
def test_sets_are_those_of_the_shell(parts):
    pattern = "".join(parts)
    for word in ["", "a", "b", "]", "-", "^", "*", "ab", "]-", "a-b", "ca^?"]:
        mine = glob_match("/x" + pattern).match("/x" + word) is not None
        assert mine == fnmatch.fnmatchcase("x" + word, "x" + pattern)


@given(st.text(st.sampled_from("ab*?[]{}()|!@+\\-^:/,<>P"), max_size=12))
def test_any_text_is_a_pattern_or_is_refused_with_the_place(text):
    try:
        glob_match(text).match("/ab")
    except Invalid as error:
        refused = error
    else:
        return
    place = re.search(r"at character (\d+), ", refused.message)
    assert refused.code == "glob.invalid"
    assert place is not None
    assert 1 <= int(place[1]) <= max(1, len(text))


@pytest.mark.parametrize(
    ("pattern", "place", "why"),
    [
        ("/ab[cd", 4, "the set is not closed by ']'"),
        ("ab[cd", 3, "the set is not closed by ']'"),
        ("/a(b", 3, "the bracket is not closed by ')'"),
        ("/a!(b", 4, "the bracket is not closed by ')'"),
        ("/{a,{b}", 2, "the bracket is not closed by '}'"),
        ("/a\\", 3, "nothing follows the last backslash"),
        ("/[z-a]", 3, "the range z-a goes backwards"),
        ("/[[:alphabet:]]", 3, "there is no class 'alphabet' of characters"),
        ("/(?P<1>*)", 3, "the capture '1' is no name"),
        ("/(?P<a>*)-(?<a>*)", 12, "the capture 'a' is there twice"),
    ],
)
def test_an_error_names_the_place_in_the_pattern_as_it_was_given(pattern, place, why):
    with pytest.raises(Invalid, match=re.escape(f"at character {place}, {why}")):
        glob_match(pattern)


def test_captures_may_have_names():
    glob = glob_match("/(?P<day>*)/(?<kind>a|b)-(*).csv")
    assert glob.names == {"day": 1, "kind": 2}
    captures = glob.match("/1/b-x.csv")
    assert captures == ("1", "b", "x")
    assert glob.fill("$day-${kind}", captures) == "1-b"
    assert glob.fill("$3 costs $$1", captures) == "x costs $1"
    assert glob.fill("", captures) == glob.fill("$1$2$3", captures) == "1\0b\0x"


@pytest.mark.parametrize("template", ["$4", "$0", "$week", "${5}"])
def test_a_template_names_what_is_captured(template):
    glob = glob_match("/(?P<day>*)/(*)-(*)")
    with pytest.raises(Invalid) as caught:
        glob.fill(template, ("1", "2", "3"))
    assert caught.value.code == "glob.capture"
    assert caught.value.hint == "It captures $1, $2, $3, $day."


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("/*(*a|b)c", "/" + "a" * 60),
        ("/+(a*)b+(a*)c", "/" + "a" * 80),
        ("/*(*(a|b))", "/" + "ab" * 40 + "c"),
        ("/+(+(+(+(*))))x", "/" + "a" * 60),
    ],
)
def test_what_does_not_match_nested_repetitions_is_told_without_trying_every_way(pattern, path):
    """This ends: a regular expression alone would try for longer than anybody waits."""
    assert glob_match(pattern).match(path) is None
