"""Signature V4, by the worked examples of its documentation and by what must be refused.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html
https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
"""

from datetime import UTC, datetime, timedelta

import pytest

from clew.server.s3.errors import S3Error
from clew.server.s3.incoming import Incoming, read_promise
from clew.server.s3.request import read_request
from clew.server.s3.signing import EMPTY_SHA256, verify

KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
THEN = datetime(2013, 5, 24, tzinfo=UTC)
SCOPE = f"{KEY}/20130524/us-east-1/s3/aws4_request"


def asked(method, target, headers):
    path, _, query = target.partition("?")
    return read_request(
        {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        }
    )


def authorization(signed, signature):
    return f"AWS4-HMAC-SHA256 Credential={SCOPE}, SignedHeaders={signed}, Signature={signature}"


def get(**changes):
    headers = {
        "Host": "examplebucket.s3.amazonaws.com",
        "Range": "bytes=0-9",
        "x-amz-content-sha256": EMPTY_SHA256,
        "x-amz-date": "20130524T000000Z",
        "Authorization": authorization(
            "host;range;x-amz-content-sha256;x-amz-date",
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
    }
    return asked("GET", "/test.txt", headers | changes)


def presigned(signature="aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"):
    query = (
        f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={SCOPE.replace('/', '%2F')}"
        "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        f"&X-Amz-Signature={signature}"
    )
    return asked("GET", f"/test.txt?{query}", {"Host": "examplebucket.s3.amazonaws.com"})


def refused(request, now=THEN, secret=SECRET):
    with pytest.raises(S3Error) as told:
        verify(request, secret, now, access_key=KEY)
    return told.value.code


def test_the_example_of_a_get_holds():
    assert verify(get(), SECRET, THEN, access_key=KEY).key


def test_the_example_of_a_list_with_a_query_holds():
    headers = {
        "Host": "examplebucket.s3.amazonaws.com",
        "x-amz-content-sha256": EMPTY_SHA256,
        "x-amz-date": "20130524T000000Z",
        "Authorization": authorization(
            "host;x-amz-content-sha256;x-amz-date",
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    }
    assert verify(asked("GET", "/?max-keys=2&prefix=J", headers), SECRET, THEN, access_key=KEY)


def test_the_example_of_a_presigned_url_holds_until_it_ends():
    day = timedelta(seconds=86400)
    assert verify(presigned(), SECRET, THEN + day, access_key=KEY)
    assert refused(presigned(), THEN + day + timedelta(seconds=1)) == "AccessDenied"


def test_the_end_of_a_presigned_url_holds_where_no_signature_is_asked_for():
    late = THEN + timedelta(days=2)
    assert refused(presigned(signature="0" * 64), late, secret="") == "AccessDenied"
    assert verify(presigned(signature="0" * 64), "", THEN)


@pytest.mark.parametrize(
    "request_",
    [
        get(Range="bytes=0-99"),
        get(Host="elsewhere.example"),
        presigned(signature="0" * 64),
    ],
)
def test_what_was_changed_after_signing_is_refused(request_):
    assert refused(request_) == "SignatureDoesNotMatch"


def test_another_secret_is_refused():
    assert refused(get(), secret="another") == "SignatureDoesNotMatch"


def test_another_key_is_refused():
    with pytest.raises(S3Error) as told:
        verify(get(), SECRET, THEN, access_key="another")
    assert told.value.code == "InvalidAccessKeyId"


@pytest.mark.parametrize("minutes", [-16, 16])
def test_clocks_that_differ_by_more_than_a_quarter_of_an_hour_are_told(minutes):
    assert refused(get(), THEN + timedelta(minutes=minutes)) == "RequestTimeTooSkewed"


def test_a_header_that_steers_must_be_signed():
    assert refused(get(**{"x-amz-copy-source": "/other/secret"})) == "AccessDenied"


def test_nobody_comes_in_without_a_signature():
    assert refused(asked("GET", "/", {"Host": "x"})) == "AccessDenied"


@pytest.mark.parametrize("value", ["AWS4-HMAC-SHA256 x", "AWS4-HMAC-SHA256 Credential=a/b"])
def test_an_unreadable_signature_is_told(value):
    assert refused(get(Authorization=value)) == "AuthorizationHeaderMalformed"


SEED = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
CHUNKS = [
    ("10000", "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648", 65536),
    ("400", "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497", 1024),
    ("0", "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9", 0),
]


def streamed(chunks=CHUNKS):
    signed = (
        "content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;"
        "x-amz-decoded-content-length;x-amz-storage-class"
    )
    headers = {
        "Host": "s3.amazonaws.com",
        "x-amz-date": "20130524T000000Z",
        "x-amz-storage-class": "REDUCED_REDUNDANCY",
        "Authorization": authorization(signed, SEED),
        "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "Content-Encoding": "aws-chunked",
        "x-amz-decoded-content-length": "66560",
        "Content-Length": "66824",
    }
    body = b"".join(
        f"{size};chunk-signature={signature}\r\n".encode() + b"a" * count + b"\r\n"
        for size, signature, count in chunks
    )
    request = asked("PUT", "/examplebucket/chunkObject.txt", headers)
    signature = verify(request, SECRET, THEN, access_key=KEY)
    pieces = iter([body[n : n + 1000] for n in range(0, len(body), 1000)])
    return Incoming(lambda: next(pieces, b""), read_promise(request), signature)


def test_the_example_of_a_streamed_put_holds_chunk_by_chunk():
    incoming = streamed()
    assert incoming.read() == b"a" * 66560
    assert incoming.received().size_bytes == 66560


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_chunk_with_another_signature_is_refused(which):
    wrong = [(s, "0" * 64 if n == which else sig, c) for n, (s, sig, c) in enumerate(CHUNKS)]
    with pytest.raises(S3Error) as told:
        streamed(wrong).read()
    assert told.value.code == "SignatureDoesNotMatch"


@pytest.mark.parametrize("kept", [CHUNKS[:1], CHUNKS[:2], [CHUNKS[0], CHUNKS[2]]])
def test_a_stream_that_lacks_a_chunk_is_refused(kept):
    with pytest.raises(S3Error):
        streamed(kept).read()
