"""How people name data, and what is no name."""

import pytest

from clew.base.address import Address, normal_path, parse_address
from clew.base.errors import Invalid


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("p/data", Address(repo="p/data")),
        ("data", Address(repo="data")),
        ("p/data@exp", Address(repo="p/data", ref="exp")),
        ("p/data@exp^", Address(repo="p/data", ref="exp", ancestors=1)),
        ("p/data@main^12", Address(repo="p/data", ancestors=12)),
        ("p/data^2", Address(repo="p/data", ancestors=2)),
        ("p/data^", Address(repo="p/data", ancestors=1)),
        ("p/data^2:/a b.csv", Address(repo="p/data", ancestors=2, path="/a b.csv")),
        ("p/data:a//b/", Address(repo="p/data", path="/a/b")),
        ("p/data@v1:/a:b^c", Address(repo="p/data", ref="v1", path="/a:b^c")),
    ],
)
def test_an_address_is_a_repo_a_ref_in_it_and_a_path(text, means):
    assert parse_address(text) == means
    assert parse_address(str(means)) == means


@pytest.mark.parametrize(
    "text", ["p/data@", "p/data@a b", "p/data@main^x", "p/data^x", "p/data^1^2"]
)
def test_what_is_no_ref_is_refused(text):
    with pytest.raises(Invalid) as caught:
        parse_address(text)
    assert caught.value.code == "address.invalid"


@pytest.mark.parametrize("text", ["", "a/b/c", "/data", "p/", "p/../x", "p d/x", "ä/x"])
def test_what_is_no_repo_is_refused(text):
    with pytest.raises(Invalid) as caught:
        parse_address(text)
    assert caught.value.code == "repo.name"


def test_a_path_keeps_its_bytes():
    names = ["/Ärger", "/A\u0308rger", "/a", "/A", "/日本", "/ "]
    assert [normal_path(name) for name in names] == names


@pytest.mark.parametrize("path", ["/a/../b", "/./a", "/a\x00b", "/a\nb", "/\x9f", "/\ud800"])
def test_a_path_that_leads_elsewhere_or_cannot_be_written_is_refused(path):
    with pytest.raises(Invalid) as caught:
        normal_path(path)
    assert caught.value.code == "path.invalid"
