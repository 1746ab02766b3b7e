"""Where a call may run: what it demands against what machines have."""

import tarfile

import msgspec
import pytest

from clew.base.errors import Invalid, Unavailable
from clew.compute import Call, RayPool
from clew.compute.clusters import terms_of
from clew.compute.demands import Machine, demand_of, room_for, shown
from clew.compute.elsewhere import bundle, identity, is_same, lay_out, name_of, translated
from clew.compute.frames import decode, encode

LEFT = Machine(id="1", host="a", resources={"CPU": 4, "GPU": 1}, labels={"zone": "eu"})
RIGHT = Machine(id="2", host="b", resources={"CPU": 8, "slots": 3}, labels={"zone": "us"})


def demand(resources=None, placement=None):
    return demand_of(
        Call(
            entry="a:b",
            payload={},
            label="x",
            resources=resources or {},
            placement=placement or {},
        )
    )


@pytest.mark.parametrize(
    ("resources", "placement", "room"),
    [
        ({}, {}, 12),
        ({"CPU": 3}, {}, 3),
        ({"GPU": 1}, {}, 1),
        ({"GPU": 0.5}, {}, 2),
        ({"GPU": 2}, {}, 0),
        ({"slots": 1}, {}, 3),
        ({"CPU": 0, "slots": 1}, {}, 3),
        ({"GPU": 1, "slots": 1}, {}, 0),
        ({}, {"zone": "eu"}, 4),
        ({}, {"zone": "!eu"}, 8),
        ({}, {"zone": "in(eu, us)"}, 12),
        ({}, {"zone": "!in(eu, us)"}, 0),
        ({}, {"rack": "1"}, 0),
    ],
)
def test_room_is_where_every_resource_and_label_is(resources, placement, room):
    assert room_for(demand(resources, placement), [LEFT, RIGHT]) == room


def test_equal_demands_are_equal_in_whatever_order_they_are_written():
    assert demand({"a": 1, "b": 2}) == demand({"b": 2, "a": 1})
    assert demand() == demand({"CPU": 1})


def test_demands_and_machines_are_told_in_words():
    assert demand({"GPU": 1}, {"zone": "eu"}).words() == "CPU: 1, GPU: 1 on zone=eu"
    assert shown([LEFT]) == "a (CPU: 4, GPU: 1, zone=eu)"


def test_names_in_a_payload_are_replaced_whole_and_nowhere_else():
    payload = {"store": "/a", "list": [["/a", "/a/b"]], "/a": 1, "bytes": b"/a"}
    found = decode(translated(encode(payload), {"/a": "/z"}))
    assert found == {"store": "/z", "list": [["/z", "/a/b"]], "/a": 1, "bytes": b"/a"}


def test_a_project_arrives_as_it_was_and_has_one_name(tmp_path):
    here = tmp_path / "here"
    (here / "pkg" / "__pycache__").mkdir(parents=True)
    (here / "pkg" / "a.py").write_text("x = 1\n")
    (here / "run.sh").write_text("true\n")
    (here / "run.sh").chmod(0o755)
    archive = bundle(str(here))
    (here / "pkg" / "__pycache__" / "a.pyc").write_bytes(b"later")
    assert name_of(bundle(str(here))) == name_of(archive)
    there = tmp_path / "there"
    lay_out(archive, there)
    lay_out(archive, there)
    assert (there / "pkg" / "a.py").read_text() == "x = 1\n"
    assert (there / "run.sh").stat().st_mode & 0o777 == 0o755
    assert not (there / "pkg" / "__pycache__").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "there"]


def test_a_store_is_the_same_where_it_is_the_same_file_of_the_same_machine(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "format").write_text("x")
    one, two = identity(str(tmp_path / "one")), identity(str(tmp_path / "two"))
    assert is_same(one, identity(str(tmp_path / "one")), vouched=False)
    assert not is_same(one, two, vouched=True)
    assert not is_same(one, identity(str(tmp_path / "none")), vouched=True)
    elsewhere = ("another machine", one[1] + 1, one[2])
    assert not is_same(one, elsewhere, vouched=False)
    assert is_same(one, elsewhere, vouched=True)


@pytest.mark.parametrize(
    ("address", "joined"),
    [
        ("ray://auto", "auto"),
        ("ray://head:10001", "ray://head:10001"),
        ("ray+gcs://head:6379", "head:6379"),
        ("ray://auto?store=relay&idle_s=5", "auto"),
    ],
)
def test_addresses_are_those_of_ray(address, joined, tmp_path):
    assert terms_of(address, size=0, log=tmp_path, preload=()).address == joined


@pytest.mark.parametrize(
    "address", ["ray://", "ray://a/b", "ray://a?x=1", "ray://a?store=no", "ray://a?idle_s=-1"]
)
def test_what_is_no_address_of_a_cluster_is_refused(address, tmp_path):
    with pytest.raises(Invalid) as raised:
        terms_of(address, size=0, log=tmp_path, preload=())
    assert raised.value.code == "ray.address"


def test_without_ray_a_cluster_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    pool = RayPool("ray://auto", str(tmp_path), tmp_path)
    try:
        with pytest.raises(Unavailable) as raised:
            pool.start()
        assert raised.value.code == "ray.missing"
        assert 'pip install "clew[ray]"' in raised.value.hint
        call = Call(entry="a:b", payload={}, label="x")
        error = pool.submit(call).result().error
        assert (error.kind, error.code) == ("clew", "ray.missing")
    finally:
        pool.close()


def test_frames_between_engine_and_cluster_carry_what_they_are_given():
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(LEFT), type=Machine) == LEFT


def test_what_is_no_archive_leaves_nothing(tmp_path):
    with pytest.raises(tarfile.TarError):
        lay_out(b"no archive" * 100, tmp_path / "there")
    assert not list(tmp_path.iterdir())
