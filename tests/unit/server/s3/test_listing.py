"""Pages of keys are those of a plain model, whatever the prefix, delimiter and size of page."""

from hypothesis import given, settings
from hypothesis import strategies as st

from clew.server.s3.listing import list_keys
from clew.store import Entry

PARTS = st.text("ab-/é", min_size=1, max_size=6)
KEYS = st.sets(
    PARTS.filter(lambda key: not key.startswith("/") and "//" not in key and key[-1] != "/"),
    max_size=25,
)
FOLDERS = st.sets(st.sampled_from(["a/", "b/a/", "zz/"]), max_size=2)


def entry(key):
    return Entry(path=f"/{key}", digest="", size_bytes=0)


def walk_of(keys):
    def walk(directory, after):
        root = directory.rstrip("/")
        paths = sorted(f"/{key}" for key in keys)
        below = [path for path in paths if path.startswith(f"{root}/") or path == root]
        return iter([entry(path[1:]) for path in below if path > after])

    return walk


def model(keys, prefix, delimiter, after):
    """Keys and common prefixes together, in order, by the words of S3's documentation."""
    found = []
    for key in sorted(keys):
        if not key.startswith(prefix) or key <= after:
            continue
        at = key.find(delimiter, len(prefix)) if delimiter else -1
        name = key if at < 0 else key[: at + len(delimiter)]
        if (at < 0 or name > after) and name not in found:
            found.append(name)
    return found


def names(page):
    return sorted([*(one.path[1:] for one in page.entries), *page.prefixes])


@settings(max_examples=300, deadline=None)
@given(
    keys=KEYS,
    folders=FOLDERS,
    prefix=st.sampled_from(["", "a", "a/", "b/", "é", "a-", "ab"]),
    delimiter=st.sampled_from(["", "/", "-", "b/"]),
    after=st.one_of(st.just(""), PARTS),
    most=st.integers(1, 5),
)
def test_all_pages_together_are_what_the_model_says(keys, folders, prefix, delimiter, after, most):
    extra = [entry(folder) for folder in sorted(folders)]
    found, at = [], after
    while True:
        page = list_keys(
            walk_of(keys), extra, prefix=prefix, delimiter=delimiter, after=at, most=most
        )
        assert len(page.entries) + len(page.prefixes) <= most
        found += names(page)
        if page.next is None:
            break
        at = page.next
    assert found == model(keys | folders, prefix, delimiter, after)


def test_no_keys_are_asked_for():
    page = list_keys(walk_of({"a"}), [], most=0)
    assert (page.entries, page.prefixes, page.next) == ([], [], None)


def test_a_common_prefix_is_walked_into_once():
    asked = []

    def walk(directory, after):
        asked.append(after)
        return walk_of({f"d{n}/{m}" for n in range(3) for m in range(1000)})(directory, after)

    page = list_keys(walk, [], delimiter="/")
    assert page.prefixes == ["d0/", "d1/", "d2/"]
    assert len(asked) == 4
