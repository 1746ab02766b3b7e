"""The API as any HTTP client sees it: plain JSON, plain tar, plain server-sent events."""

import inspect
import io
import json
import tarfile
import threading
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from clew.base.verbs import Verbs

P = "late-flights"


@pytest.fixture
def http(url):
    with httpx2.Client(base_url=url, timeout=60, trust_env=False) as client:
        yield client


def tar_of(**files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def send_tar(http, data, **parameters):
    headers = {"Content-Type": "application/x-tar"}
    parameters = {"repo": f"{P}/flights", **parameters}
    return http.post("/api/v1/commits", params=parameters, content=data, headers=headers)


def test_every_verb_has_an_operation_in_openapi(http):
    paths = http.get("/openapi.json").json()["paths"]
    operations = {o["operationId"] for path in paths.values() for o in path.values()}
    for name, _ in inspect.getmembers(Verbs, inspect.isfunction):
        local = {"close", "open_file", "transaction"}  # made of others, or of ranges
        if not name.startswith("_") and name not in local:
            assert any(o == name or o.startswith(f"{name}_api_v1") for o in operations), name


def test_records_are_described_by_their_fields(http):
    schemas = http.get("/openapi.json").json()["components"]["schemas"]
    assert {"Commit", "Job", "Verdict", "Explanation", "ErrorBody"} <= set(schemas)
    assert "global_id" in schemas["Commit"]["properties"]


def test_the_page_of_the_api_needs_no_other_host(http):
    page = http.get("/docs", headers={"Accept": "text/html"}).text
    assert "/api/v1/commits" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page


@pytest.mark.parametrize(
    ("method", "path", "status", "kind", "code"),
    [
        ("GET", "/api/v1/jobs/zzzz", 404, "not_found", "job.unknown"),
        ("GET", "/api/v1/nothing", 404, "not_found", "route.unknown"),
        ("GET", "/api/v1/jobs?limit=many", 400, "invalid", "request.invalid"),
        ("GET", "/api/v1/commits", 400, "invalid", "request.invalid"),
        ("POST", "/api/v1/status", 400, "invalid", "request.invalid"),
        ("POST", f"/api/v1/commits?repo={P}/flights", 400, "invalid", "request.media_type"),
        ("GET", "/api/v1/diff?old=corrupt&new=x", 400, "invalid", "address.invalid"),
    ],
)
def test_every_refusal_has_one_form(http, method, path, status, kind, code):
    answer = http.request(method, path)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert (error["kind"], error["code"]) == (kind, code)
    assert set(error) == {"kind", "code", "message", "hint"}


def test_conflict_and_denied_have_their_own_status(http, verbs):
    assert http.post("/api/v1/repos", json={"name": f"{P}/flights"}).status_code == 409
    body = {"model_version": verbs.versions[0].id}
    assert http.post(f"/api/v1/endpoints/{P}/deploy", json=body).status_code == 403


def test_what_nobody_expected_is_500_with_a_reference_and_no_secrets(http, verbs, caplog):
    verbs.status = lambda: 1 / 0
    error = http.get("/api/v1/status").json()["error"]
    assert error["code"] == "server.failed"
    assert "division" not in json.dumps(error)
    reference = error["message"].partition("reference ")[2][:8]
    assert reference in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_after_a_failure_the_connection_goes_on(url, verbs, caplog):
    verbs.status = lambda: 1 / 0
    place = urlsplit(url)
    connection = HTTPConnection(place.hostname, place.port, timeout=60)
    try:
        connection.connect()
        own_port = connection.sock.getsockname()
        for path, status in [("/status", 500), ("/repos", 200), ("/status", 500), ("/repos", 200)]:
            connection.request("GET", f"/api/v1{path}")
            answer = connection.getresponse()
            assert (answer.read() != b"", answer.status) == (True, status)
            assert connection.sock.getsockname() == own_port, "it was closed and opened again"
    finally:
        connection.close()
    assert caplog.text.count("/api/v1/status failed") == 2


def test_an_endpoint_is_told_where_the_caller_can_reach_it(verbs, serving):
    with serving(verbs, token="secret") as url:
        for host, expected in [
            ("example.org:9000", "http://example.org:9000"),
            ("127.0.0.1:1", "http://127.0.0.1:8687"),
        ]:
            headers = {"Host": host, "Authorization": "Bearer secret"}
            one = httpx2.get(f"{url}/api/v1/endpoints/{P}", headers=headers).json()
            status = httpx2.get(f"{url}/api/v1/status", headers=headers).json()
            listed = httpx2.get(f"{url}/api/v1/endpoints", headers=headers).json()
            for endpoint in (one, status["endpoints"][0], listed[0]):
                assert endpoint["url"] == f"{expected}/v2/models/{P}"


def test_json_says_null_where_a_number_is_none(http, verbs):
    trials = http.get(f"/api/v1/experiments/{verbs.detail.experiment.id}").json()["trials"]
    assert trials[-1]["value"] is None


def test_a_plain_tar_of_any_tool_is_a_commit(http, verbs):
    answer = send_tar(http, tar_of(**{"a.txt": b"1", "b/c.txt": b"22"}), message="m", delete="/x")
    assert answer.json()["message"] == "m"
    assert verbs.store == {"a.txt": b"1", "b/c.txt": b"22"}
    assert verbs.asked[-1][4] == ["/x"]


def test_one_file_is_put_without_any_archive(http, verbs):
    parameters = {"repo": f"{P}/flights", "path": "/one.bin"}
    http.put("/api/v1/content", params=parameters, content=b"\0\1").raise_for_status()
    assert verbs.store["/one.bin"] == b"\0\1"


def test_a_cut_archive_is_refused_whole(http, verbs):
    whole = tar_of(a=bytes(5000), b=bytes(9000))
    answer = send_tar(http, whole[:8000])
    assert answer.json()["error"]["code"] == "archive.unreadable"
    assert send_tar(http, b"nonsense" * 100).json()["error"]["code"] == "archive.unreadable"
    assert verbs.store == {}


def test_links_in_an_archive_are_refused(http, verbs):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        link = tarfile.TarInfo("passwd")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    assert send_tar(http, buffer.getvalue()).json()["error"]["code"] == "archive.link"
    assert verbs.store == {}


def test_a_large_file_is_answered_by_ranges(http, verbs):
    verbs.store["/big"] = bytes(range(256)) * 20_000
    parameters = {"address": f"{P}/flights:/big"}
    part = http.get("/api/v1/content", params=parameters, headers={"Range": "bytes=256-259"})
    assert part.status_code == 206
    assert part.content == b"\0\1\2\3"
    assert http.get("/api/v1/content", params=parameters).content == verbs.store["/big"]


@pytest.mark.parametrize(
    ("asked", "status", "part", "said"),
    [
        ("bytes=2-5", 206, slice(2, 6), "bytes 2-5/100"),
        ("bytes=90-", 206, slice(90, 100), "bytes 90-99/100"),
        ("bytes=-3", 206, slice(97, 100), "bytes 97-99/100"),
        ("bytes=-300", 206, slice(0, 100), "bytes 0-99/100"),
        ("bytes=0-99999", 206, slice(0, 100), "bytes 0-99/100"),
        ("bytes=100-", 416, slice(0, 0), "bytes */100"),
        ("bytes=5-2", 200, slice(0, 100), None),
        ("bytes=0-1,4-5", 200, slice(0, 100), None),
        ("lines=0-1", 200, slice(0, 100), None),
    ],
)
def test_a_range_is_answered_as_http_says(http, verbs, asked, status, part, said):
    verbs.store["/big"] = bytes(range(100))
    parameters = {"address": f"{P}/flights:/big"}
    answer = http.get("/api/v1/content", params=parameters, headers={"Range": asked})
    assert answer.status_code == status
    assert answer.content == bytes(range(100))[part]
    assert answer.headers.get("content-range") == said
    assert http.head("/api/v1/content", params=parameters).headers["content-length"] == "100"


def test_a_file_that_has_not_changed_does_not_travel_again(http, verbs):
    verbs.store["/big"] = bytes(100)
    parameters = {"address": f"{P}/flights:/big"}
    etag = http.get("/api/v1/content", params=parameters).headers["etag"]
    again = http.get("/api/v1/content", params=parameters, headers={"If-None-Match": etag})
    assert (again.status_code, again.content) == (304, b"")
    other = {"Range": "bytes=0-1", "If-Range": '"another"'}
    assert http.get("/api/v1/content", params=parameters, headers=other).status_code == 200


def test_what_goes_out_leaves_nothing_on_the_disk(verbs, serving, tmp_path):
    verbs.store["/d/big"] = bytes(9_000_000)
    with serving(verbs, scratch=tmp_path) as url:
        for path in (
            f"content?address={P}/flights:/d/big",
            "archive?address=a/b:/d",
            "archive?address=a/b:/n",
        ):
            httpx2.get(f"{url}/api/v1/{path}", trust_env=False)
        with httpx2.stream(
            "GET", f"{url}/api/v1/content?address={P}/flights:/d/big", trust_env=False
        ) as answer:
            next(answer.iter_raw())  # and goes away in the middle
        with httpx2.Client(base_url=url, trust_env=False) as http:
            send_tar(http, tar_of(a=b"1")).raise_for_status()
    assert list(tmp_path.iterdir()) == []


def test_content_is_never_a_page_of_this_origin(http, verbs):
    verbs.store["/evil.html"] = b"<script>alert(1)</script>"
    answer = http.get("/api/v1/content", params={"address": f"{P}/flights:/evil.html"})
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_directory_is_not_content(http, verbs):
    verbs.store["/d/one.txt"] = b""
    answer = http.get("/api/v1/content", params={"address": f"{P}/flights:/d"})
    assert answer.json()["error"]["code"] == "file.directory"


def test_an_archive_is_a_tar_that_any_tool_reads(http, verbs):
    verbs.store.update({"/d/a.txt": b"1", "/d/e/ü.txt": b"2", "/x": b"3"})
    answer = http.get("/api/v1/archive", params={"address": f"{P}/flights:/d"})
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as tar:
        assert sorted(tar.getnames()) == ["a.txt", "e/ü.txt"]


def test_a_project_without_its_entry_is_refused(http):
    headers = {"Content-Type": "application/x-tar"}
    answer = http.post("/api/v1/apply?entry=b.py", content=tar_of(**{"a.py": b""}), headers=headers)
    assert answer.json()["error"]["code"] == "project.no_entry"


def listen(http, path, count, **headers):
    found = []
    with http.stream("GET", path, headers=headers) as answer:
        for said in httpx2.EventSource(answer):
            found.append(said)
            if len(found) == count:
                break
    return found


def test_events_come_as_they_happen_and_resume_where_they_broke(http, verbs):
    first = listen(http, "/api/v1/events?follow=1&after=0", 3)
    assert [said.id for said in first] == ["1", "2", "3"]
    rest = listen(http, "/api/v1/events?follow=1", 2, **{"Last-Event-ID": "3"})
    assert [said.id for said in rest] == ["4", "5"]
    assert rest[0].json()["kind"] == verbs.log_of_events[3].kind


def test_events_without_a_place_are_from_now_on(http, verbs):
    timer = threading.Event()

    def speak():
        while not timer.wait(0.02):
            verbs.happen("job.ended", "new")

    speaker = threading.Thread(target=speak)
    speaker.start()
    try:
        (said,) = listen(http, "/api/v1/events?follow=1", 1)
    finally:
        timer.set()
        speaker.join()
    assert int(said.id) > 7


def test_many_may_listen_at_once(http, url):
    found = []

    def one():
        with httpx2.Client(base_url=url, timeout=60, trust_env=False) as mine:
            found.append(len(listen(mine, "/api/v1/events?follow=1&after=0", 7)))

    listeners = [threading.Thread(target=one) for _ in range(40)]
    for listener in listeners:
        listener.start()
    assert http.get("/api/v1/status").status_code == 200
    for listener in listeners:
        listener.join()
    assert found == [7] * 40


def test_a_long_poll_says_whether_anything_is_left(http, verbs):
    assert http.get("/api/v1/wait?timeout_s=5").json() == {"idle": True}
    verbs.busy.set()
    assert http.get("/api/v1/wait?timeout_s=0").json() == {"idle": False}


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/wait?watch=1&timeout_s=1&after=9223372036854775808", {}),
        ("/wait?watch=1&timeout_s=1&after=-9223372036854775809", {}),
        ("/events?after=-9223372036854775809", {}),
        ("/wait?watch=1&timeout_s=1", {"Last-Event-ID": "9" * 5000}),
    ],
)
def test_an_event_that_no_log_can_have_is_refused(http, path, headers):
    answer = http.get(f"/api/v1{path}", headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "request.invalid")


def test_metrics_are_in_the_prometheus_format(http):
    families = {f.name: f for f in text_string_to_metric_families(http.get("/metrics").text)}
    jobs = {(s.labels["step"], s.labels["state"]): s.value for s in families["clew_jobs"].samples}
    assert jobs["clean", "refused"] == 1
    assert jobs["clean", "done"] == 2
    assert {"clew_datums", "clew_events", "clew_endpoint_requests"} <= set(families)
    traffic = families["clew_revision_traffic_percent"].samples
    assert sum(sample.value for sample in traffic) == 100


class Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        said = json.dumps({"path": self.path, "headers": dict(self.headers), "size": len(body)})
        self.send_response(418)
        self.send_header("Content-Length", str(len(said)))
        self.send_header("Clew-Prediction-Id", "p123")
        self.end_headers()
        self.wfile.write(said.encode())

    def log_message(self, *_):
        pass


def test_inference_is_passed_on_to_the_endpoint_server(verbs, serving):
    echo = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=echo.serve_forever).start()
    place = f"http://127.0.0.1:{echo.server_port}"
    with serving(verbs, endpoint_url=lambda: place, token="t") as url, echo:
        answer = httpx2.post(
            f"{url}/v2/models/a%20b/infer?x=1",
            content=bytes(300_000),
            headers={"Authorization": "bearer t", "X-Mine": "yes", "Cookie": "a=b"},
            trust_env=False,
        )
        echo.shutdown()
    said = answer.json()
    assert answer.status_code == 418
    assert answer.headers["clew-prediction-id"] == "p123"
    assert (said["path"], said["size"]) == ("/v2/models/a%20b/infer?x=1", 300_000)
    names = {name.lower() for name in said["headers"]}
    assert "x-mine" in names
    assert "cookie" not in names
    assert said["headers"]["authorization"] == "Bearer t"  # the endpoint server asks for it too


@pytest.mark.parametrize("place", ["", "http://127.0.0.1:9"])
def test_inference_without_an_endpoint_server_is_unavailable(verbs, serving, place):
    with serving(verbs, endpoint_url=lambda: place) as url:
        answer = httpx2.post(f"{url}/v1/models/m:predict", json={}, trust_env=False)
    assert answer.status_code == 503
    assert isinstance(answer.json()["error"], str)


@pytest.mark.parametrize("limit", ["-1", "0", "99999999999999999999"])
@pytest.mark.parametrize("path", ["jobs", "experiments", "drift"])
def test_a_limit_that_is_none_is_refused_and_never_means_all(http, path, limit):
    answer = http.get(f"/api/v1/{path}", params={"limit": limit})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "request.invalid"


def test_a_sequence_number_beyond_all_is_refused(http):
    answer = http.get("/api/v1/events", params={"after": "99999999999999999999"})
    assert answer.status_code == 400
