"""Long branches: ancestors, logs and days do not walk them."""

from __future__ import annotations

import sqlalchemy as sa

from clew.base import clock
from clew.repos import skipping, tables

LONG = 20_000


def chain(db, repos, count):
    """A branch of so many commits, written as rows."""
    first = repos.commit("raw", {"/a": b"1"})
    with db.begin() as tx:
        row = dict(tx.execute(tables.COMMIT, {"id": first.id}).one()._mapping)
        places = skipping._Places(tx)
        places.add(first.id, None)
        rows = []
        for number in range(1, count):
            id = f"{number:016d}"
            parent = first.id if number == 1 else f"{number - 1:016d}"
            depth, jump = places.add(id, parent)
            at = row["at_us"] + number
            rows.append(
                row
                | {"seq": row["seq"] + number, "id": id, "parent": parent, "depth": depth}
                | {"jump": jump, "at_us": at, "finished_us": at, "global_id": id}
            )
        tx.execute(tables.commits.insert(), rows)
        where = tables.branches.c.repo == "raw"
        tx.execute(sa.update(tables.branches).where(where).values(head=rows[-1]["id"]))
    return first


def statements(db, act):
    """What ``act`` gives, and how many statements it ran."""
    count = []
    sa.event.listen(db._engine, "before_cursor_execute", lambda *a: count.append(a[2]))
    return act(), len(count)


def test_an_ancestor_is_found_in_few_steps_on_a_long_branch(db, repos):
    first = chain(db, repos, LONG)
    found, asked = statements(db, lambda: repos.resolve(f"raw@main^{LONG - 1}"))
    assert found.id == first.id
    assert asked < 100
    for up in (1, 2, 3, 1000, 4095, 4096, 12_345, LONG - 2):
        assert repos.resolve(f"raw@main^{up}").id == f"{LONG - 1 - up:016d}"
    assert [c.id for c in repos.log("raw", limit=3)] == [f"{LONG - n:016d}" for n in (1, 2, 3)]
    day = clock.from_us(clock.to_us(clock.now()))
    today, asked = statements(db, lambda: repos.resolve(f"raw@{day:%Y-%m-%d}"))
    assert today.id == f"{LONG - 1:016d}"
    assert asked < 100


def test_chains_without_places_get_them_with_the_next_commit(db, repos):
    ids = [repos.commit("raw", {"/a": bytes([n])}).id for n in range(50)]
    with db.begin() as tx:
        tx.execute(sa.update(tables.commits).values(depth=None, jump=None))
    assert repos.resolve("raw@main^49").id == ids[0]
    assert repos.resolve(f"raw@{ids[9]}^9").id == ids[0]
    repos.commit("raw", {"/a": b"new"})
    with db.read() as tx:
        depths = dict(tx.execute(sa.select(tables.commits.c.id, tables.commits.c.depth)).all())
    assert [depths[id] for id in ids] == list(range(50))
    assert repos.resolve("raw@main^50").id == ids[0]


def test_what_comes_after_a_squashed_commit_gets_new_places(db, repos):
    ids = [repos.commit("raw", {"/a": bytes([n])}).id for n in range(40)]
    repos.squash(ids[3], ids[20])
    kept = ids[:3] + ids[21:]
    for up, id in enumerate(reversed(kept)):
        assert repos.resolve(f"raw@main^{up}").id == id
    assert [commit.id for commit in repos.log("raw", limit=100)] == kept[::-1]
