"""The door on the wire: who may ask, and what no well-behaved client sends."""

import hashlib

import httpx2
import pytest

PRESIGNED = "X-Amz-Algorithm=AWS4-HMAC-SHA256"
BUCKET = "main.flights.late-flights"


def ask(url, path="/", method="GET", **more):
    return httpx2.request(method, url + path, trust_env=False, **more)


def signed(**headers):
    return {
        "Authorization": "AWS4-HMAC-SHA256 Credential=any/20260101/r/s3/aws4_request,"
        "SignedHeaders=host,Signature=0",
        "x-amz-date": "20260101T000000Z",
        **headers,
    }


def test_requests_that_are_not_signed_go_to_the_pages(open_door):
    assert "<html" in ask(open_door.url).text
    assert ask(open_door.url, "/api/v1/health").json()["status"] == "ok"


def test_signed_ones_go_to_s3(open_door):
    answer = ask(open_door.url, headers=signed())
    assert "ListAllMyBucketsResult" in answer.text
    assert answer.headers["x-amz-request-id"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_pages_of_other_sites_are_refused(open_door, headers):
    answer = ask(open_door.url, f"/{BUCKET}/a", "PUT", content=b"1", headers=signed(**headers))
    assert answer.status_code == 403
    assert "AccessDenied" in answer.text
    assert open_door.files() == []


def test_a_form_cannot_delete_by_an_address_that_looks_signed(open_door):
    open_door.repos.commit("late-flights/flights", {"/a": b"1"})
    query = (
        f"{PRESIGNED}&X-Amz-Credential=a/20260101/r/s3/aws4_request&X-Amz-SignedHeaders=host"
        "&X-Amz-Date=20260101T000000Z&X-Amz-Signature=0&X-Amz-Expires=604800&delete"
    )
    body = b"<Delete><Object><Key>a</Key></Object></Delete>"
    form = {"Content-Type": "text/plain"}
    answer = ask(open_door.url, f"/{BUCKET}?{query}", "POST", content=body, headers=form)
    assert answer.status_code == 403
    assert open_door.files() == ["/a"]


def test_a_text_file_may_be_put_by_a_client_that_signs(open_door):
    headers = signed(**{"Content-Type": "text/plain"})
    answer = ask(open_door.url, f"/{BUCKET}/a.txt", "PUT", content=b"1", headers=headers)
    assert answer.status_code == 200
    assert open_door.files() == ["/a.txt"]


def test_a_bucket_may_stand_in_the_name_of_the_host(open_door):
    port = open_door.url.rpartition(":")[2]
    headers = signed(Host=f"{BUCKET}.localhost:{port}")
    ask(open_door.url, "/a/b", "PUT", content=b"1", headers=headers)
    assert open_door.files() == ["/a/b"]
    assert ask(open_door.url, "/a/b", headers=headers).content == b"1"


def test_errors_say_code_reason_and_request(open_door):
    answer = ask(open_door.url, f"/{BUCKET}/nothing", headers=signed())
    assert answer.status_code == 404
    assert "<Code>NoSuchKey</Code>" in answer.text
    assert answer.headers["x-amz-request-id"] in answer.text
    assert ask(open_door.url, f"/{BUCKET}/nothing", "HEAD", headers=signed()).content == b""


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", f"/{BUCKET}?policy", 501),
        ("PUT", f"/{BUCKET}/a?acl", 501),
        ("GET", f"/{BUCKET}?versions", 501),
        ("PATCH", f"/{BUCKET}/a", 405),
        ("POST", "/", 405),
        ("GET", f"/{BUCKET}?list-type=2&max-keys=x", 400),
        ("GET", f"/{BUCKET}?list-type=2&continuation-token=%3F", 400),
        ("GET", f"/{BUCKET}/%FF", 400),
        ("PUT", f"/{BUCKET}/a", 411),
    ],
)
def test_what_s3_has_and_this_door_not_is_told(open_door, method, path, status):
    content = iter([b"1"]) if status == 411 else b""
    headers = signed(**{"x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER"})
    if status != 411:
        headers = signed()
    answer = ask(open_door.url, path, method, headers=headers, content=content)
    assert answer.status_code == status
    assert "<Error>" in answer.text


@pytest.mark.parametrize(
    "body",
    [b"", b"<Delete>", b"<Other/>", b'<!DOCTYPE x [<!ENTITY a "b">]><Delete/>', b"<Delete/>"],
)
def test_xml_that_is_none_is_refused(open_door, body):
    answer = ask(open_door.url, f"/{BUCKET}?delete", "POST", content=body, headers=signed())
    assert answer.status_code == 400
    assert "MalformedXML" in answer.text


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"x-amz-content-sha256": "0" * 64}, b"abc"),
        ({"x-amz-decoded-content-length": "3"}, b"4\r\nabcd\r\n0\r\n\r\n"),
        ({"x-amz-decoded-content-length": "4"}, b"3\r\nabc\r\n0\r\n\r\n"),
        ({"x-amz-decoded-content-length": "3"}, b"3\r\nabc\r\n"),
        ({"x-amz-decoded-content-length": "3"}, b"zz\r\nabc\r\n0\r\n\r\n"),
        (
            {"x-amz-decoded-content-length": "3", "x-amz-trailer": "x-amz-checksum-crc32"},
            b"3\r\nabc\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n",
        ),
        (
            {"x-amz-decoded-content-length": "3", "x-amz-trailer": "x-amz-checksum-crc32"},
            b"3\r\nabc\r\n0\r\n\r\n",
        ),
    ],
)
def test_a_body_that_does_not_hold_what_it_says_is_not_kept(open_door, headers, body):
    framed = {"x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER", **headers}
    answer = ask(open_door.url, f"/{BUCKET}/a", "PUT", content=body, headers=signed(**framed))
    assert answer.status_code == 400
    assert open_door.files() == []


def test_a_whole_body_by_its_hash(open_door):
    sha256 = hashlib.sha256(b"abc").hexdigest()
    headers = signed(**{"x-amz-content-sha256": sha256})
    answer = ask(open_door.url, f"/{BUCKET}/a", "PUT", content=b"abc", headers=headers)
    assert answer.status_code == 200


def test_a_page_among_the_objects_cannot_act_for_this_server(open_door):
    headers = signed(**{"Content-Type": "text/html"})
    ask(open_door.url, f"/{BUCKET}/a.html", "PUT", content=b"<script>", headers=headers)
    answer = ask(open_door.url, f"/{BUCKET}/a.html", headers=signed())
    assert answer.headers["content-type"] == "text/html"
    assert answer.headers["content-security-policy"].startswith("sandbox")
    assert answer.headers["x-content-type-options"] == "nosniff"
