from __future__ import annotations

import fnmatch

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
