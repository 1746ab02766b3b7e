"""Writes gathered into one commit: shown at once, kept at once, ended when it is quiet."""

import pytest
from botocore.exceptions import ClientError

from clew.server.s3 import Gateway

BUCKET = "main.flights.late-flights"
REPO = "late-flights/flights"
NEVER_S = 3600


@pytest.fixture
def gather(rooms, frames, door):
    """Puts a gateway that gathers in the place of the other; several in turn."""
    made = []

    def use(quiet_s):
        frame, _ = frames[0]
        gateway = Gateway(rooms, frame.rules, gather_s=quiet_s)
        frame.gateway = gateway
        made.append(gateway)
        return gateway

    yield use
    for gateway in made:
        gateway.close()


def keys(s3):
    return [one["Key"] for one in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])]


def test_the_bucket_shows_what_no_commit_has_yet(s3, door, gather):
    gateway = gather(NEVER_S)
    s3.put_object(Bucket=BUCKET, Key="a", Body=b"1", Metadata={"k": "v"})
    s3.put_object(Bucket=BUCKET, Key="b", Body=b"2")
    s3.delete_object(Bucket=BUCKET, Key="b")
    s3.copy_object(Bucket=BUCKET, Key="c", CopySource={"Bucket": BUCKET, "Key": "a"})
    assert keys(s3) == ["a", "c"]
    assert s3.get_object(Bucket=BUCKET, Key="c")["Metadata"] == {"k": "v"}
    assert door.files() == []
    gateway.close()
    assert door.files() == ["/a", "/c"]
    assert len(door.log()) == 1
    assert keys(s3) == ["a", "c"]


def test_conditions_hold_against_what_is_gathered(s3, gather):
    gather(NEVER_S)
    s3.put_object(Bucket=BUCKET, Key="a", Body=b"1", IfNoneMatch="*")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3.put_object(Bucket=BUCKET, Key="a", Body=b"2", IfNoneMatch="*")
    with pytest.raises(ClientError, match="ObjectNameConflict"):
        s3.put_object(Bucket=BUCKET, Key="a/b", Body=b"2")
    assert keys(s3) == ["a"]


def test_a_branch_that_is_quiet_gets_its_commit(s3, door, rooms, gather):
    gather(0.05)
    seen = rooms.db.events.last()
    for number in range(3):
        s3.put_object(Bucket=BUCKET, Key=str(number), Body=b"1")
    while len(door.files()) < 3:
        assert rooms.db.events.wait(seen, 30)
        seen = rooms.db.events.last()
    assert door.files() == ["/0", "/1", "/2"]


def test_what_was_gathered_outlives_the_server(s3, door, gather):
    gather(NEVER_S)
    s3.put_object(Bucket=BUCKET, Key="a", Body=b"1")
    gather(NEVER_S)  # as after a kill: the first one ends nothing
    assert door.files() == ["/a"]


def test_what_others_commit_meanwhile_stays(s3, door, gather):
    gateway = gather(NEVER_S)
    s3.put_object(Bucket=BUCKET, Key="a", Body=b"1")
    door.repos.commit(REPO, {"/b": b"2"})
    gateway.close()
    assert door.files() == ["/a", "/b"]


def test_what_changes_nothing_leaves_no_commit(s3, door, gather):
    door.repos.commit(REPO, {"/a": b"1"})
    gateway = gather(NEVER_S)
    s3.put_object(Bucket=BUCKET, Key="a", Body=b"1")
    gateway.close()
    assert door.repos.head(REPO).message == ""


def test_parts_are_gathered_too(s3, door, gather):
    gateway = gather(NEVER_S)
    where = {"Bucket": BUCKET, "Key": "m"}
    where["UploadId"] = s3.create_multipart_upload(**where)["UploadId"]
    etag = s3.upload_part(**where, PartNumber=1, Body=b"part")["ETag"]
    s3.complete_multipart_upload(
        **where, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]}
    )
    assert s3.get_object(Bucket=BUCKET, Key="m")["Body"].read() == b"part"
    gateway.close()
    assert door.files() == ["/m"]
