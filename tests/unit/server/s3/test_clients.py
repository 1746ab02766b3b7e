"""Real clients, unmodified: the AWS SDKs for Python and C++ (Arrow), and Rust's object_store."""

import random
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import obstore
import pyarrow as pa
import pyarrow.dataset
import pyarrow.fs
import pyarrow.parquet
import pytest
from botocore.exceptions import ClientError

BUCKET = "main.flights.late-flights"
REPO = "late-flights/flights"
MIB = 1 << 20


def noise(size, seed=1):
    return random.Random(seed).randbytes(size)


def code(act, *args, **more):
    """What the server refuses this with."""
    with pytest.raises(ClientError) as told:
        act(*args, **more)
    return told.value.response["Error"]["Code"]


def body(s3, key, bucket=BUCKET, **more):
    return s3.get_object(Bucket=bucket, Key=key, **more)["Body"].read()


def test_every_branch_of_every_repo_is_a_bucket(s3, door):
    door.repos.create("late-flights/late.Flights", kind="output")
    s3.put_object(Bucket=BUCKET, Key="a", Body=b"a")
    door.repos.create_branch(REPO, "dev")
    found = [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
    assert found == ["dev.flights.late-flights", BUCKET, "main.late--2e--46lights.late-flights"]


def test_what_is_put_is_a_commit_and_comes_back_with_its_facts(s3, door):
    told = s3.put_object(
        Bucket=BUCKET,
        Key="a b/ü+&=?.txt",
        Body=b"hello",
        ContentType="text/plain",
        Metadata={"who": "me"},
        CacheControl="no-cache",
    )
    assert told["ETag"] == '"5d41402abc4b2a76b9719d911017c592"'
    assert door.files() == ["/a b/ü+&=?.txt"]
    assert door.log() == ["s3: put a b/ü+&=?.txt"]
    found = s3.get_object(Bucket=BUCKET, Key="a b/ü+&=?.txt")
    assert found["Body"].read() == b"hello"
    assert (found["ETag"], found["ContentType"]) == (told["ETag"], "text/plain")
    assert (found["Metadata"], found["CacheControl"]) == ({"who": "me"}, "no-cache")
    assert found["ChecksumCRC32"] == told["ChecksumCRC32"]


def test_the_same_again_is_no_new_commit_and_keeps_the_new_facts(s3, door):
    s3.put_object(Bucket=BUCKET, Key="a", Body=b"1", Metadata={"n": "1"})
    s3.put_object(Bucket=BUCKET, Key="a", Body=b"1", Metadata={"n": "2"})
    assert len(door.log()) == 1
    assert s3.head_object(Bucket=BUCKET, Key="a")["Metadata"] == {"n": "2"}


def test_a_commit_is_a_bucket_that_never_changes(s3, door):
    s3.put_object(Bucket=BUCKET, Key="a", Body=b"old")
    first = door.repos.head(REPO).id
    s3.put_object(Bucket=BUCKET, Key="a", Body=b"new")
    for bucket in (f"{first}.flights.late-flights", f"{first[:8]}.flights.late-flights"):
        assert body(s3, "a", bucket) == b"old"
        assert code(s3.put_object, Bucket=bucket, Key="a", Body=b"x") == "AccessDenied"
        assert code(s3.delete_object, Bucket=bucket, Key="a") == "AccessDenied"
    assert body(s3, "a") == b"new"


def test_what_clew_writes_cannot_be_written_and_says_why(s3, door):
    door.repos.create("late-flights/clean", kind="output")
    door.repos.commit("late-flights/clean", {"/a": b"1"})
    bucket = "main.clean.late-flights"
    assert body(s3, "a", bucket) == b"1"
    with pytest.raises(ClientError, match="is written by Clew"):
        s3.put_object(Bucket=bucket, Key="a", Body=b"2")


def test_a_file_that_came_by_another_door_has_an_etag_that_is_no_md5(s3, door):
    door.repos.commit(REPO, {"/a.txt": b"hello"})
    etag = s3.head_object(Bucket=BUCKET, Key="a.txt")["ETag"].strip('"')
    assert etag.endswith("-file")
    assert len(etag) == 64 + len("-file")
    assert body(s3, "a.txt", IfMatch=etag) == b"hello"


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("bytes=0-0", b"0"),
        ("bytes=2-4", b"234"),
        ("bytes=7-", b"789"),
        ("bytes=7-99", b"789"),
        ("bytes=-3", b"789"),
        ("bytes=-99", b"0123456789"),
    ],
)
def test_ranges(s3, asked, found):
    s3.put_object(Bucket=BUCKET, Key="a", Body=b"0123456789")
    told = s3.get_object(Bucket=BUCKET, Key="a", Range=asked)
    assert told["Body"].read() == found
    assert told["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert told["ContentRange"].endswith("/10")


@pytest.mark.parametrize("asked", ["bytes=4-2", "bytes=", "lines=1-2", "bytes=0-1,3-4"])
def test_a_range_that_is_none_gives_the_whole(s3, asked):
    s3.put_object(Bucket=BUCKET, Key="a", Body=b"0123456789")
    assert body(s3, "a", Range=asked) == b"0123456789"


def test_a_range_behind_the_end_is_refused(s3):
    s3.put_object(Bucket=BUCKET, Key="a", Body=b"")
    assert code(s3.get_object, Bucket=BUCKET, Key="a", Range="bytes=0-") == "InvalidRange"


def test_a_range_of_a_large_object_is_read_from_its_chunks(s3):
    data = noise(9 * MIB)
    s3.put_object(Bucket=BUCKET, Key="large", Body=data)
    assert body(s3, "large", Range="bytes=5000000-7000001") == data[5000000:7000002]
    assert body(s3, "large") == data


def test_conditions_of_reads(s3):
    etag = s3.put_object(Bucket=BUCKET, Key="a", Body=b"1")["ETag"]
    moment = s3.head_object(Bucket=BUCKET, Key="a")["LastModified"]
    assert body(s3, "a", IfMatch=etag, IfUnmodifiedSince=moment) == b"1"
    assert code(s3.get_object, Bucket=BUCKET, Key="a", IfMatch='"x"') == "PreconditionFailed"
    assert code(s3.get_object, Bucket=BUCKET, Key="a", IfNoneMatch=etag) == "304"
    assert code(s3.head_object, Bucket=BUCKET, Key="a", IfModifiedSince=moment) == "304"


@pytest.mark.parametrize(
    ("key", "expected"),
    [("nothing", "NoSuchKey"), ("a/", "NoSuchKey"), ("../a", "NoSuchKey"), ("", "")],
)
def test_what_is_not_there(s3, key, expected):
    s3.put_object(Bucket=BUCKET, Key="a/b", Body=b"")
    if key:
        assert code(s3.get_object, Bucket=BUCKET, Key=key) == expected
    for bucket in ("main.nothing", "nothing.flights.late-flights", "nothing"):
        assert code(s3.get_object, Bucket=bucket, Key="a") == "NoSuchBucket"
        assert code(s3.head_bucket, Bucket=bucket) == "404"


@pytest.mark.parametrize("key", ["a//b", "a/../b", "a\nb", "x" * 1025])
def test_a_key_that_can_be_no_path_is_refused(s3, door, key):
    with pytest.raises(ClientError):
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"1")
    assert door.files() == []


def test_a_path_is_not_both_a_file_and_a_directory(s3, door):
    s3.put_object(Bucket=BUCKET, Key="a", Body=b"1")
    assert code(s3.put_object, Bucket=BUCKET, Key="a/b", Body=b"2") == "ObjectNameConflict"
    assert door.files() == ["/a"]


def test_of_many_who_create_one_object_one_wins(door):
    clients = [door.boto() for _ in range(6)]
    start = threading.Barrier(len(clients))

    def create(number):
        start.wait()
        try:
            clients[number].put_object(
                Bucket=BUCKET, Key="lock", Body=b"%d" % number, IfNoneMatch="*"
            )
        except ClientError as error:
            return error.response["Error"]["Code"]
        return number

    with ThreadPoolExecutor(len(clients)) as pool:
        told = list(pool.map(create, range(len(clients))))
    won = [one for one in told if isinstance(one, int)]
    assert len(won) == 1
    assert told.count("PreconditionFailed") == len(clients) - 1
    assert body(clients[0], "lock") == b"%d" % won[0]
    for client in clients:
        client.close()


def test_counters_that_compare_and_swap_lose_nothing(door):
    """Each adds one, four times, to what it has read: If-Match sees to it that none is lost."""
    clients = [door.boto() for _ in range(3)]
    clients[0].put_object(Bucket=BUCKET, Key="n", Body=b"0")

    def count(client):
        done = 0
        while done < 4:
            found = client.get_object(Bucket=BUCKET, Key="n")
            value = b"%d" % (int(found["Body"].read()) + 1)
            try:
                client.put_object(Bucket=BUCKET, Key="n", Body=value, IfMatch=found["ETag"])
                done += 1
            except ClientError as error:
                if error.response["Error"]["Code"] != "PreconditionFailed":
                    raise

    with ThreadPoolExecutor(len(clients)) as pool:
        list(pool.map(count, clients))
    assert body(clients[0], "n") == b"12"
    for client in clients:
        client.close()


def test_if_match_of_what_is_not_there(s3):
    assert code(s3.put_object, Bucket=BUCKET, Key="a", Body=b"1", IfMatch='"x"') == "NoSuchKey"


@pytest.mark.parametrize(
    "promise",
    [
        {"ContentMD5": "AAAAAAAAAAAAAAAAAAAAAA=="},
        {"ChecksumCRC32": "AAAAAA=="},
        {"ChecksumCRC32C": "AAAAAA=="},
        {"ChecksumCRC64NVME": "AAAAAAAAAAA="},
        {"ChecksumSHA256": "A" * 43 + "="},
    ],
)
def test_a_body_that_is_not_what_was_promised_is_not_kept(s3, door, promise):
    for size in (5, 2 * MIB):
        told = code(s3.put_object, Bucket=BUCKET, Key="a", Body=noise(size), **promise)
        assert told in {"BadDigest", "InvalidDigest"}
    assert door.files() == []


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA1", "SHA256"])
def test_checksums_behind_the_body_hold(s3, algorithm):
    s3.put_object(Bucket=BUCKET, Key="a", Body=noise(70_000), ChecksumAlgorithm=algorithm)
    assert body(s3, "a", ChecksumMode="ENABLED") == noise(70_000)


def test_deletes(s3, door):
    for key in ("a", "b/c", "b/d", "e"):
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"")
    s3.delete_object(Bucket=BUCKET, Key="a")
    s3.delete_object(Bucket=BUCKET, Key="nothing")
    s3.delete_object(Bucket=BUCKET, Key="b")
    assert door.files() == ["/b/c", "/b/d", "/e"]
    before = len(door.log())
    told = s3.delete_objects(
        Bucket=BUCKET, Delete={"Objects": [{"Key": "b/c"}, {"Key": "b/d"}, {"Key": "gone"}]}
    )
    assert len(told["Deleted"]) == 3
    assert door.files() == ["/e"]
    assert len(door.log()) == before + 1


def test_a_copy_moves_no_bytes_and_keeps_facts(s3, door):
    data = noise(2 * MIB)
    s3.put_object(Bucket=BUCKET, Key="a", Body=data, Metadata={"k": "v"})
    s3.copy_object(Bucket=BUCKET, Key="b", CopySource={"Bucket": BUCKET, "Key": "a"})
    one, other = (door.repos.get_file(door.repos.head(REPO), path) for path in ("/a", "/b"))
    assert one.digest == other.digest
    assert s3.head_object(Bucket=BUCKET, Key="b")["Metadata"] == {"k": "v"}
    source = {"Bucket": BUCKET, "Key": "a"}
    s3.copy_object(
        Bucket=BUCKET, Key="a", CopySource=source, MetadataDirective="REPLACE", Metadata={"k": "w"}
    )
    assert s3.head_object(Bucket=BUCKET, Key="a")["Metadata"] == {"k": "w"}


def test_many_writers_at_once_share_commits_and_lose_nothing(door):
    s3 = door.boto(max_pool_connections=16)
    keys = [f"d{n % 7}/{n}" for n in range(120)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda key: s3.put_object(Bucket=BUCKET, Key=key, Body=key.encode()), keys))
    assert door.files() == sorted(f"/{key}" for key in keys)
    assert all(body(s3, key) == key.encode() for key in keys[::10])
    assert len(door.log()) < len(keys)
    s3.close()


def test_parts_make_an_object(s3, door):
    parts = [noise(5 * MIB, 1), noise(6 * MIB, 2), b"end"]
    up = s3.create_multipart_upload(Bucket=BUCKET, Key="m", Metadata={"k": "v"})["UploadId"]
    where = {"Bucket": BUCKET, "Key": "m", "UploadId": up}
    told = [
        s3.upload_part(**where, PartNumber=number, Body=part)["ETag"]
        for number, part in reversed([*enumerate(parts, 1)])
    ][::-1]
    assert door.files() == []
    assert [one["Key"] for one in s3.list_multipart_uploads(Bucket=BUCKET)["Uploads"]] == ["m"]
    listed = s3.list_parts(**where, MaxParts=2)
    assert [one["Size"] for one in listed["Parts"]] == [5 * MIB, 6 * MIB]
    assert listed["IsTruncated"]
    chosen = [{"PartNumber": n, "ETag": etag} for n, etag in enumerate(told, 1)]
    done = s3.complete_multipart_upload(**where, MultipartUpload={"Parts": chosen})
    assert done["ETag"].endswith('-3"')
    assert body(s3, "m") == b"".join(parts)
    assert s3.head_object(Bucket=BUCKET, Key="m")["Metadata"] == {"k": "v"}
    again = s3.complete_multipart_upload(**where, MultipartUpload={"Parts": chosen})
    assert again["ETag"] == done["ETag"]
    assert len(door.log()) == 1
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=BUCKET)


def test_an_object_of_parts_is_the_same_content_as_one_put_whole(s3, door):
    data = noise(12 * MIB)
    s3.put_object(Bucket=BUCKET, Key="whole", Body=data)
    up = s3.create_multipart_upload(Bucket=BUCKET, Key="parts")["UploadId"]
    where = {"Bucket": BUCKET, "Key": "parts", "UploadId": up}
    chosen = []
    for number, start in enumerate(range(0, len(data), 5 * MIB), 1):
        piece = data[start : start + 5 * MIB]
        etag = s3.upload_part(**where, PartNumber=number, Body=piece)["ETag"]
        chosen.append({"PartNumber": number, "ETag": etag})
    s3.complete_multipart_upload(**where, MultipartUpload={"Parts": chosen})
    one, other = (door.repos.get_file(door.repos.head(REPO), f"/{n}") for n in ("whole", "parts"))
    assert one.digest == other.digest


def test_wrong_parts_are_refused(s3, door):
    up = s3.create_multipart_upload(Bucket=BUCKET, Key="m")["UploadId"]
    where = {"Bucket": BUCKET, "Key": "m", "UploadId": up}
    one = {"PartNumber": 1, "ETag": s3.upload_part(**where, PartNumber=1, Body=b"1")["ETag"]}
    two = {"PartNumber": 2, "ETag": s3.upload_part(**where, PartNumber=2, Body=b"2")["ETag"]}

    def complete(*parts):
        return code(s3.complete_multipart_upload, **where, MultipartUpload={"Parts": list(parts)})

    assert complete(one, two) == "EntityTooSmall"
    assert complete(two, one) == "InvalidPartOrder"
    assert complete({**one, "ETag": two["ETag"]}) == "InvalidPart"
    assert complete(one, {**two, "PartNumber": 3}) == "InvalidPart"
    assert code(s3.upload_part, **where, PartNumber=10_001, Body=b"") == "InvalidArgument"
    assert code(s3.list_parts, **{**where, "Key": "other"}) == "NoSuchUpload"
    s3.abort_multipart_upload(**where)
    assert code(s3.upload_part, **where, PartNumber=1, Body=b"1") == "NoSuchUpload"
    assert door.files() == []


def test_a_part_may_be_a_range_of_another_object(s3):
    data = noise(11 * MIB)
    s3.put_object(Bucket=BUCKET, Key="a", Body=data)
    up = s3.create_multipart_upload(Bucket=BUCKET, Key="b")["UploadId"]
    where = {"Bucket": BUCKET, "Key": "b", "UploadId": up}
    source = {"Bucket": BUCKET, "Key": "a"}
    chosen = []
    for number, span in ((1, f"bytes=0-{6 * MIB - 1}"), (2, f"bytes={6 * MIB}-{11 * MIB - 1}")):
        told = s3.upload_part_copy(
            **where, PartNumber=number, CopySource=source, CopySourceRange=span
        )
        chosen.append({"PartNumber": number, "ETag": told["CopyPartResult"]["ETag"]})
    s3.complete_multipart_upload(**where, MultipartUpload={"Parts": chosen})
    assert body(s3, "b") == data


def test_listings_page_by_page(s3):
    keys = sorted([f"a/{n}" for n in range(5)] + ["b", "c/1", "c/2", "d é&<"])
    for key in keys:
        s3.put_object(Bucket=BUCKET, Key=key, Body=key.encode())
    for version in ("list_objects", "list_objects_v2"):
        pages = s3.get_paginator(version).paginate(Bucket=BUCKET, PaginationConfig={"PageSize": 2})
        assert [one["Key"] for page in pages for one in page["Contents"]] == keys
        pages = s3.get_paginator(version).paginate(
            Bucket=BUCKET, Delimiter="/", PaginationConfig={"PageSize": 1}
        )
        found = [
            one.get("Key") or one["Prefix"]
            for page in pages
            for one in page.get("Contents", []) + page.get("CommonPrefixes", [])
        ]
        assert found == ["a/", "b", "c/", "d é&<"]
    behind = s3.list_objects_v2(Bucket=BUCKET, StartAfter="b", FetchOwner=True)
    assert [one["Key"] for one in behind["Contents"]] == ["c/1", "c/2", "d é&<"]
    assert behind["Contents"][0]["Owner"]["ID"] == "clew"
    assert behind["Contents"][0]["ETag"] == s3.head_object(Bucket=BUCKET, Key="c/1")["ETag"]


def test_an_empty_directory_that_a_client_makes_is_listed_until_it_is_removed(s3, door):
    s3.put_object(Bucket=BUCKET, Key="d/", Body=b"")
    assert [one["Key"] for one in s3.list_objects_v2(Bucket=BUCKET)["Contents"]] == ["d/"]
    assert s3.head_object(Bucket=BUCKET, Key="d/")["ContentLength"] == 0
    assert door.files() == []
    assert code(s3.put_object, Bucket=BUCKET, Key="d/", Body=b"1") == "InvalidArgument"
    s3.delete_object(Bucket=BUCKET, Key="d/")
    assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET)


def test_buckets_are_made_and_removed(s3, door):
    s3.put_object(Bucket=BUCKET, Key="a", Body=b"1")
    s3.create_bucket(Bucket="dev.flights.late-flights")
    assert body(s3, "a", "dev.flights.late-flights") == b"1"
    s3.create_bucket(Bucket="main.fresh.late-flights")
    assert door.repos.get("late-flights/fresh").kind == "source"
    assert code(s3.create_bucket, Bucket=BUCKET) == "BucketAlreadyOwnedByYou"
    assert code(s3.create_bucket, Bucket="plain") == "InvalidBucketName"
    assert code(s3.delete_bucket, Bucket=BUCKET) == "BucketNotEmpty"
    s3.delete_bucket(Bucket="main.fresh.late-flights")
    assert s3.get_bucket_location(Bucket=BUCKET)["LocationConstraint"] is None
    assert "Status" not in s3.get_bucket_versioning(Bucket=BUCKET)


@pytest.mark.parametrize(
    "more",
    [
        {"ServerSideEncryption": "AES256"},
        {"Tagging": "a=b"},
        {"ACL": "public-read"},
        {"StorageClass": "GLACIER"},
        {"ExpectedBucketOwner": "another"},
    ],
)
def test_what_would_be_dropped_in_silence_is_refused(s3, door, more):
    with pytest.raises(ClientError):
        s3.put_object(Bucket=BUCKET, Key="a", Body=b"1", **more)
    assert door.files() == []


def test_presigned_urls(s3, door):
    s3.put_object(Bucket=BUCKET, Key="a b", Body=b"hello")
    where = {"Bucket": BUCKET, "Key": "a b"}
    url = s3.generate_presigned_url("get_object", where, ExpiresIn=60)
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == b"hello"
        assert "sandbox" in answer.headers["Content-Security-Policy"]
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(url.replace("Expires=60", "Expires=61"))
    url = s3.generate_presigned_url("put_object", where, ExpiresIn=60)
    for kind in ("text/plain", "text/csv"):
        late = url.replace("Expires=60", "Expires=61")
        request = urllib.request.Request(late, b"bad", {"Content-Type": kind}, method="PUT")
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(request)
    assert body(s3, "a b") == b"hello"
    request = urllib.request.Request(url, b"new", {"Content-Type": "text/csv"}, method="PUT")
    urllib.request.urlopen(request).close()
    assert body(s3, "a b") == b"new"


def test_addresses_that_are_presigned_the_outdated_way(s3, door):
    s3.put_object(Bucket=BUCKET, Key="a ü", Body=b"hello")
    client = door.boto(signature_version="s3")
    where = {"Bucket": BUCKET, "Key": "a ü", "ResponseContentType": "text/x"}
    url = client.generate_presigned_url("get_object", where, ExpiresIn=60)
    assert "AWSAccessKeyId=clew" in url
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == b"hello"
        assert answer.headers["Content-Type"] == "text/x"
    for wrong in (
        url.replace("text/x", "text/y").replace("text%2Fx", "text%2Fy"),
        url.replace("AWSAccessKeyId=clew", "AWSAccessKeyId=other"),
        client.generate_presigned_url("get_object", where, ExpiresIn=-1),
    ):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(wrong)
    client.close()


@pytest.mark.parametrize(("key", "secret"), [("clew", "wrong"), ("other", "a-long-random-token")])
def test_wrong_keys_are_refused(door, key, secret):
    client = door.boto(key=key, secret=secret)
    assert code(client.list_buckets) in {"SignatureDoesNotMatch", "InvalidAccessKeyId"}
    client.close()


def test_on_loopback_any_key_will_do(open_door):
    client = open_door.boto(key="any", secret="thing")
    client.put_object(Bucket=BUCKET, Key="a", Body=b"1")
    assert body(client, "a") == b"1"
    client.close()


def test_arrow_reads_and_writes_datasets(door):
    fs = door.arrow()
    table = pa.table({"n": range(100_000), "k": [n % 3 for n in range(100_000)]})
    pa.dataset.write_dataset(
        table, f"{BUCKET}/t", filesystem=fs, format="parquet", partitioning=["k"]
    )
    found = pa.dataset.dataset(f"{BUCKET}/t", filesystem=fs, partitioning=["k"]).to_table()
    assert sorted(found["n"].to_pylist()) == list(range(100_000))
    with fs.open_output_stream(f"{BUCKET}/large") as out:
        for n in range(24):
            out.write(noise(MIB, n))
    with fs.open_input_file(f"{BUCKET}/large") as source:
        assert source.read_at(3, 20 * MIB + 5) == noise(MIB, 20)[5:8]
    infos = fs.get_file_info(pyarrow.fs.FileSelector(BUCKET, recursive=True))
    assert {info.base_name for info in infos if info.type.name == "File"} == {
        "part-0.parquet",
        "large",
    }
    fs.copy_file(f"{BUCKET}/large", f"{BUCKET}/copy")
    fs.move(f"{BUCKET}/copy", f"{BUCKET}/moved")
    fs.delete_dir(f"{BUCKET}/t")
    assert door.files() == ["/large", "/moved"]


def test_rust_reads_writes_and_swaps(door):
    store = door.rust()
    obstore.put(store, "a/b", b"hello", attributes={"Content-Type": "text/plain"})
    assert bytes(obstore.get(store, "a/b").bytes()) == b"hello"
    assert bytes(obstore.get_range(store, "a/b", start=1, length=3)) == b"ell"
    with pytest.raises(obstore.exceptions.AlreadyExistsError):
        obstore.put(store, "a/b", b"x", mode="create")
    data = noise(13 * MIB)
    obstore.put(store, "large", data, use_multipart=True, chunk_size=5 * MIB)
    assert bytes(obstore.get(store, "large").bytes()) == data
    assert [one["path"] for page in obstore.list(store) for one in page] == ["a/b", "large"]
    assert obstore.list_with_delimiter(store)["common_prefixes"] == ["a"]
    obstore.copy(store, "large", "copy")
    obstore.delete(store, ["large", "a/b"])
    assert door.files() == ["/copy"]
