"""Buckets and keys have one meaning each."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.base.buckets import bucket_name, path_of, read_bucket

NAMES = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,12}\Z")


@given(ref=NAMES, name=NAMES, project=NAMES | st.just(""))
def test_every_branch_of_every_repo_has_a_bucket_that_leads_back(ref, name, project):
    repo = f"{project}/{name}" if project else name
    bucket = bucket_name(repo, ref)
    found = read_bucket(bucket)
    assert (found.repo, found.ref) == (repo, ref)
    assert re.fullmatch(r"[a-z0-9.-]+", bucket)


@pytest.mark.parametrize(
    ("repo", "ref", "bucket"),
    [
        ("late-flights/flights", "main", "main.flights.late-flights"),
        ("flights", "dev", "dev.flights"),
        ("late-flights/flights.test", "main", "main.flights--2etest.late-flights"),
        ("a--b/C", "x_y", "x--5fy.--43.a--2d--2db"),
    ],
)
def test_a_bucket_is_read_as_it_is_spelt(repo, ref, bucket):
    assert bucket_name(repo, ref) == bucket


@pytest.mark.parametrize("bucket", ["", "main", ".", "..", "a.b.c.d", "main.", "-x.y", "a.b--2f"])
def test_what_names_no_branch_is_no_bucket(bucket):
    assert read_bucket(bucket) is None


def test_capitals_are_taken_as_they_are():
    assert read_bucket("main.My_Repo").repo == "My_Repo"


@pytest.mark.parametrize("key", ["", "/a", "a//b", "a/", "a/../b", "./a", "a\nb"])
def test_a_key_that_is_no_path_is_refused(key):
    assert path_of(key) is None


def test_a_key_is_the_path_without_its_slash():
    assert path_of("a/ü b+c") == "/a/ü b+c"
