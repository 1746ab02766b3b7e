"""Files of a directory are committed when they have settled: changed ones again, gone ones not."""

from __future__ import annotations

import os
import threading

import pytest

import clew
from clew.base.errors import NotFound
from clew.sources import Feeding


@pytest.fixture
def inbox(house):
    place = house.place / "inbox"
    place.mkdir()
    return place


def write(house, file, content, *, age_s=60.0):
    """A file that was last written ``age_s`` before now, by the clock of the test."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    moment_ns = round((house.clock.us / 1e6 - age_s) * 1e9)
    os.utime(file, ns=(moment_ns, moment_ns))


def test_what_is_there_at_the_start_and_what_comes_later_is_committed(house, inbox):
    house.define(clew.directory("inbox"))
    write(house, inbox / "a.csv", b"1")
    write(house, inbox / "deep" / "b.csv", b"2")
    assert house.poll() == ["2 files"]
    assert house.files() == {"/a.csv": b"1", "/deep/b.csv": b"2"}
    assert house.poll() == []
    write(house, inbox / "c.csv", b"3")
    write(house, inbox / "a.csv", b"11")
    assert house.poll() == ["2 files"]
    assert house.files()["/a.csv"] == b"11"
    assert house.sources.get("orders").commits == 2


def test_a_file_that_is_being_written_waits_until_it_has_settled(house, inbox):
    house.define(clew.directory("inbox", settle="5s"))
    write(house, inbox / "half.csv", b"half", age_s=1)
    assert house.poll() == []
    info = house.sources.get("orders")
    assert (info.lag, info.note) == (1, "1 files are being written")
    house.clock.pass_s(3)
    write(house, inbox / "half.csv", b"half and more", age_s=0)
    house.clock.pass_s(3)
    assert house.poll() == []
    house.clock.pass_s(5)
    assert house.poll() == ["1 file"]
    assert house.files() == {"/half.csv": b"half and more"}


def test_a_file_from_the_future_settles_by_the_clock_of_the_process(house, inbox):
    house.define(clew.directory("inbox", settle="5s"))
    write(house, inbox / "ahead.csv", b"x", age_s=-10_000)
    assert house.poll() == []
    house.clock.pass_s(6)
    assert house.poll() == ["1 file"]


def test_a_file_that_changes_while_it_is_read_is_left_for_the_next_time(house, inbox):
    house.define(clew.directory("inbox", settle=0))
    write(house, inbox / "a.csv", b"1")

    def touch(*_):
        write(house, inbox / "a.csv", b"written meanwhile")

    house.repos.listeners.append(touch)
    assert house.poll() == []
    house.repos.listeners.remove(touch)
    assert house.files() == {}
    house.poll()
    assert house.files() == {"/a.csv": b"written meanwhile"}


def test_files_that_went_stay_in_the_repo_unless_deletes_are_wanted(house, inbox):
    write(house, inbox / "a.csv", b"1")
    write(house, inbox / "b.csv", b"2")
    house.define(clew.directory("inbox"))
    house.poll()
    (inbox / "a.csv").unlink()
    assert house.poll() == []
    house.define(clew.directory("inbox", deletes=True))
    assert house.poll() == ["1 gone"]
    assert list(house.files()) == ["/b.csv"]


def test_what_somebody_else_deleted_can_go_from_the_directory_too(house, inbox):
    write(house, inbox / "a.csv", b"1")
    write(house, inbox / "b.csv", b"2")
    house.define(clew.directory("inbox", deletes=True))
    house.poll()
    house.repos.commit("shop/orders", {}, ["/a.csv"])
    (inbox / "a.csv").unlink()
    (inbox / "b.csv").unlink()
    assert house.poll() == ["2 gone"]
    assert house.files() == {}


def test_a_glob_chooses_and_into_says_where(house, inbox):
    write(house, inbox / "a.csv", b"1")
    write(house, inbox / "a.tmp", b"2")
    house.define(clew.directory("inbox", glob="*.csv", into="raw"))
    house.poll()
    assert list(house.files()) == ["/raw/a.csv"]


def test_links_to_nowhere_and_pipes_are_no_files(house, inbox):
    (inbox / "dangling").symlink_to(inbox / "nothing")
    os.mkfifo(inbox / "pipe")
    house.define(clew.directory("inbox"))
    assert house.poll() == []


def test_a_directory_that_is_missing_is_said_and_found_when_it_is_there(house):
    house.define(clew.directory("later"))
    with pytest.raises(NotFound) as raised:
        house.poll()
    assert raised.value.code == "source.directory"
    write(house, house.place / "later" / "a", b"1")
    assert house.poll() == ["1 file"]


def test_a_paused_source_reads_nothing_and_its_files_wait(house, inbox):
    house.define(clew.directory("inbox"))
    house.sources.pause("orders")
    assert house.sources.due() == []
    write(house, inbox / "a", b"1")
    house.sources.pause("orders", paused=False)
    assert house.poll() == ["1 file"]


def test_two_processes_that_look_at_once_commit_each_file_once(house, inbox):
    house.define(clew.directory("inbox", settle=0))
    for number in range(20):
        write(house, inbox / f"{number}.csv", b"%d" % number)
    rooms = [house.new_sources() for _ in range(3)]
    threads = [threading.Thread(target=one.poll, args=("shop/orders",)) for one in rooms]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    for one in rooms:
        one.close()
    assert house.commits() == 1
    assert house.sources.get("orders").items == 20


def test_a_server_reads_its_sources_on_threads_of_their_own(house, inbox):
    house.define(clew.directory("inbox", settle=0, every="20ms"))
    feeding = Feeding(house.sources)
    feeding.tend()
    try:
        seen = house.db.events.last()
        write(house, inbox / "a.csv", b"1")
        while not house.db.events.after(seen, ["source.committed"]):
            house.db.events.wait(house.db.events.last(), 0.5)
        house.sources.pause("orders")
        feeding.tend()
        assert feeding._workers == {}
    finally:
        feeding.close()
    assert house.files() == {"/a.csv": b"1"}
