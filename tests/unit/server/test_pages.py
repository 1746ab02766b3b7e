"""Every page, full and empty, as HTML: what must be on it, and that nothing slips through."""

import io
from html.parser import HTMLParser

import httpx2
import msgspec
import pyarrow
import pyarrow.parquet
import pytest
from msgspec.structs import replace

from clew.base.records import UndeclaredRead
from clew.base.records.knowing import Cause

P = "late-flights"


class Reader(HTMLParser):
    """Collects text, links and ids; fails on a tag that is never closed."""

    VOID = frozenset({"meta", "link", "input", "br", "circle", "rect", "path", "line"})

    def __init__(self):
        super().__init__()
        self.open, self.links, self.ids, self.said = [], [], [], []

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.links += [found["href"]] if "href" in found else []
        self.ids += [found["id"]] if "id" in found else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag, (tag, self.getpos())

    def handle_data(self, data):
        self.said.append(data)


def read(url, path, status=200):
    answer = httpx2.get(url + path, headers={"Accept": "text/html"}, trust_env=False, timeout=60)
    assert answer.status_code == status, answer.text[:2000]
    reader = Reader()
    reader.feed(answer.text)
    assert reader.open == []
    assert len(set(reader.ids)) == len(reader.ids)
    reader.text = " ".join(" ".join(reader.said).split())
    return reader


def parquet(**columns):
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), buffer)
    return buffer.getvalue()


@pytest.fixture
def pages(verbs, fake):
    commit = verbs.commits[4].id
    verbs.store["/2013-06.parquet"] = parquet(carrier=["UA", None], delay=[1.5, 2.0])
    verbs.store["/notes.txt"] = "größer".encode()
    verbs.store["/blob"] = bytes(range(256))
    verbs.store["/bad.parquet"] = b"PAR1 no"
    return {
        "/": ["retrain: drift", "2 expectations failed", "June 2013", "49,415"],
        "/repos": [f"{P}/flights", "Hourly weather"],
        f"/repos/{P}/flights": ["June 2013", "finished"],
        f"/repos/{P}/clean": ["aborted", "2 expectations failed"],
        f"/repos/{P}/taxi": ["clew put"],
        f"/commits/{commit}": ["Against its parent", "/2013-06.parquet", "1.3 MB"],
        f"/commits/{verbs.commits[5].id}": ["Made from"],
        f"/commits/{verbs.commits[-1].id}": ["aborted"],
        f"/commits/{commit}?path=/2013-06.parquet": ["2 rows", "carrier", "double", "null"],
        f"/commits/{commit}?path=/notes.txt": ["größer", "Against its parent", "+<b>"],
        f"/commits/{commit}?path=/blob": ["neither a table nor text"],
        f"/commits/{commit}?path=/bad.parquet": ["cannot be read"],
        "/pipelines": ["version 3", "what people commit", "Run anew"],
        "/jobs": ["its input changed", "blocked"],
        "/jobs?state=refused": ["2 expectations failed"],
        f"/jobs/{fake.ident('jobclean' + fake.BAD)}": ["812 of 28,000 rows", "90210", "Log"],
        f"/jobs/{verbs.job_list[1].id}": ["7/16", "Cancel"],
        "/experiments": ["asha", "roc_auc"],
        f"/experiments/{verbs.detail.experiment.id}": ["Leaderboard", "rung 0", "∞", "max_depth"],
        "/pools": [
            "1 of 2 CPU, 0 of 2 GPU",
            "trial 4 of",
            "Xid 79",
            "Give back",
            "2 wait",
            "elsewhere",
        ],
        "/triggers": ["schedule 0 3 * * *", "2 of 3 rows", "the schedule's", "Sources"],
        f"/triggers/{P}/enough": ["Resume", "Fire now", "3 rows came to", "trains model"],
        f"/triggers/{P}/nightly": ["Pause", "no step clean", "Next look"],
        "/sources": ["postgresql://shop/orders", "failing", "12"],
        f"/sources/{P}/orders": ["1,204 items", "source.down", "Read now", "(2 times)"],
        "/models": ["champion", "refused"],
        f"/models?model={P}/model": ["champion"],
        f"/models/{verbs.versions[0].id}": ["OO is 0.164 below all", "Deploy anyway", "-0.0380"],
        f"/models/{verbs.versions[1].id}": [
            "blessed",
            "Put this version on",
            "Precision and recall",
        ],
        f"/cards/{verbs.versions[0].id}": ["Planning.", "Not written", "ops", "<b>flights"],
        "/compare?run=a&run=b": ["2 runs side by side", "infeasible", "depth = 2", "column gate"],
        "/compare?run=a&run=b&same=1": ["polars", "Only what differs"],
        "/endpoints": ["49,415"],
        f"/endpoints/{P}": [
            "30 %",
            "canary",
            "Not told apart yet",
            "Roll back",
            "dep_hour, temp",
            "0.84",
        ],
        f"/predictions/{verbs.prediction_list[0].id}": [
            "What each input did",
            "Explain",
            "distance",
        ],
        f"/drift/{fake.ident('drift')}": ["median 84 instead of 61", "0.2700"],
        f"/changes/{fake.JUNE}": ["June 2013", "best roc_auc", "3 checks passed", "7 events"],
        f"/changes/{fake.BAD}": ["aborted", "1 blocked"],
        f"/changes/{fake.ident('now')}": ["dep_hour, temp"],
        f"/why/{verbs.prediction_list[0].id}": ["answered by revision 2", "3 more", "flights.py"],
        f"/why/{verbs.versions[1].id}?down=1": ["What came of it"],
        "/search": ["Type the beginning"],
        "/login": ["Token of this server"],
        "/docs": ["/api/v1/commits", "Parameter"],
    }


def test_every_page_says_what_it_is_for(url, pages):
    for path, wanted in pages.items():
        text = read(url, path).text
        for words in wanted:
            assert words in text, (path, words)


def test_every_link_on_every_page_leads_somewhere(url, pages, verbs, fake):
    links = {link for path in pages for link in read(url, path).links}
    local = {link.partition("#")[0] for link in links if link.startswith("/")}
    known = verbs.commits[0]
    verbs.commit = lambda ref: known  # the ids of a day by hand are not all of things by hand
    verbs.job = lambda job: verbs.job_list[3]
    thing = verbs.why(verbs.prediction_list[0].id)
    verbs.why = lambda subject, down=False: thing
    verbs.change = lambda gid, real=verbs.change: real(fake.JUNE)
    with httpx2.Client(base_url=url, trust_env=False, timeout=60) as http:
        for link in sorted(local - {""}):
            answer = http.get(link, headers={"Accept": "text/html"})
            assert answer.status_code < 400, link


def test_what_users_wrote_is_text_never_markup(url, verbs, fake):
    page = httpx2.get(
        f"{url}/jobs/{fake.ident('jobclean' + fake.BAD)}", trust_env=False, timeout=60
    ).text
    assert "&lt;b&gt;B6&lt;/b&gt;" in page
    assert "<b>B6</b>" not in page


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("/", "clew apply"),
        ("/repos", "clew apply"),
        ("/pipelines", "clew init"),
        ("/jobs", "clew put"),
        ("/jobs?state=failed", "No job is failed"),
        ("/experiments", "training step"),
        ("/models", "training step"),
        ("/endpoints", "endpoint"),
        ("/triggers", "p.trigger"),
        ("/sources", "p.source"),
    ],
)
def test_an_empty_page_says_what_to_do_next(fake, serving, path, hint):
    with serving(fake.FakeVerbs(empty=True)) as url:
        assert hint in read(url, path).text


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/nothing/here", 404, "The thread ends here"),
        ("/jobs/zzzz", 404, "There is no job zzzz"),
        ("/repos/a/b", 404, "There is no repo"),
        ("/search?q=zzzz", 404, "Nothing by “zzzz”"),
    ],
)
def test_a_missing_page_is_a_page(url, path, status, words):
    assert words in read(url, path, status).text


def test_a_broken_page_is_a_page(url, verbs):
    verbs.status = lambda: 1 / 0
    text = read(url, "/", 500).text
    assert "Something broke" in text
    assert "reference" in text


def test_search_takes_any_id_to_its_page(url, verbs, fake):
    def goes(q):
        answer = httpx2.get(f"{url}/search", params={"q": q}, trust_env=False, timeout=60)
        return answer.headers["location"]

    assert goes(fake.JUNE[:6]) == f"/changes/{fake.JUNE}"
    assert goes(f" {P}/flights ") == f"/repos/{P}/flights"
    assert goes(P) == f"/endpoints/{P}"
    assert goes(verbs.versions[1].id[:8]) == f"/models/{verbs.versions[1].id}"
    assert goes(verbs.prediction_list[0].id) == f"/predictions/{verbs.prediction_list[0].id}"


def test_an_excluded_slot_is_given_back_from_its_page(url, verbs):
    with httpx2.Client(base_url=url, headers={"Origin": url}, trust_env=False) as http:
        answer = http.post("/pools/restore", data={"slot": "train/gpu:1"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/pools")
        assert verbs.restored == ("train/gpu:1",)
        assert "Give back" not in read(url, "/pools").text
        assert http.post("/pools/restore", data={"slot": "train/gpu:1"}).status_code == 404


def test_triggers_and_sources_are_paused_resumed_and_set_off_from_their_pages(url, verbs):
    def post(path, **form):
        answer = httpx2.post(
            url + path, data=form, headers={"Origin": url}, trust_env=False, timeout=60
        )
        return answer.headers.get("location")

    trigger, source = f"/triggers/{P}/nightly", f"/sources/{P}/orders"
    assert post(f"{trigger}/pause") == trigger
    assert "Resume" in read(url, trigger).text
    assert post(f"{trigger}/resume") == trigger
    assert post(f"{trigger}/fire", reason="to see") == trigger
    assert post(f"{source}/pause") == source
    assert "Resume" in read(url, source).text
    assert post(f"{source}/resume") == source
    assert post(f"{source}/poll") == source
    assert verbs.asked == [
        ("pause_trigger", f"{P}/nightly", True),
        ("pause_trigger", f"{P}/nightly", False),
        ("fire_trigger", f"{P}/nightly", "to see"),
        ("pause_source", f"{P}/orders", True),
        ("pause_source", f"{P}/orders", False),
        ("poll_source", f"{P}/orders"),
    ]
    assert (
        httpx2.post(
            f"{url}{trigger}/pause", headers={"Origin": "http://evil.test"}, trust_env=False
        ).status_code
        == 403
    )


def test_a_job_shows_why_it_ran_and_what_it_read_undeclared(url, verbs):
    job = verbs.job_list[3]
    read_by = (UndeclaredRead(kind="env", name="REGION", where="flights.py:12", datums=5),)
    verbs.job = lambda _: replace(job, undeclared=read_by)
    diff = "--- then\n+++ now\n@@ -1 +1 @@\n-return x\n+return <x>"
    causes = (
        Cause(kind="code", name="flights.py:clean", diff=diff),
        Cause(kind="parameter", name="floor", old="1", new="2"),
        Cause(kind="file", name="flights:/a.csv", new="file:1"),
    )
    thing = replace(verbs.why(verbs.prediction_list[0].id), causes=causes)
    verbs.why = lambda subject, down=False: thing
    text = read(url, f"/jobs/{job.id}").text
    for words in (
        "flights.py:clean",
        "+return <x>",
        "REGION",
        "flights.py:12",
        "depends_on=",
    ):
        assert words in text, words
    assert "What differs from the run before" in read(url, f"/why/{job.id}").text


def test_a_verdict_leads_to_the_version_that_it_judged(url, verbs):
    verdict = verbs.verdict_list[1]
    answer = httpx2.get(f"{url}/verdicts/{verdict.id}", trust_env=False, timeout=60)
    assert answer.headers["location"] == f"/models/{verdict.model_version}#{verdict.id}"


def test_forms_do_what_they_say_and_go_back(url, verbs, fake):
    def post(path, **form):
        answer = httpx2.post(
            url + path, data=form, headers={"Origin": url}, trust_env=False, timeout=60
        )
        return answer.status_code, answer.headers.get("location")

    refused = verbs.versions[0].id
    deploy = f"/endpoints/{P}/deploy"
    assert post(f"/pipelines/{P}/run", step="clean") == (303, f"/changes/{fake.JUNE}")
    assert post(f"/endpoints/{P}/rollback", reason="slow") == (303, f"/endpoints/{P}")
    share = f"/endpoints/{P}/traffic"
    assert post(share, revision="2", percent="20")[0] == 303
    assert post(share, revision="2", what="shadow")[0] == 303
    assert post(share, revision="2=20, 3=5")[0] == 303
    assert post(share, revision="2", percent="many")[0] == 400
    arms = f"/endpoints/{P}/arms"
    assert post(arms, arms="m@3=20 m@4", kind="split")[0] == 303
    assert post(arms, arms="m@3=few")[0] == 400
    assert post(deploy, version=refused) == (403, None)
    assert post(deploy, version=refused, override_by="ada", override_reason="must")[0] == 303
    assert verbs.asked == [
        ("run", P, "clean", "asked for on its page"),
        ("rollback", P, "slow"),
        ("set_traffic", P, {"weights": {"2": 20.0}, "reason": "asked for on its page"}),
        ("set_traffic", P, {"shadow": {"2": 100.0}, "reason": "asked for on its page"}),
        ("set_traffic", P, {"weights": {"2": 20.0, "3": 5.0}, "reason": "asked for on its page"}),
        ("deploy_arms", P, {"m@3": 20.0, "m@4": None}, {"kind": "split"}),
        ("deploy", P, refused, "ada", "must"),
    ]


def test_an_endpoint_without_a_test_under_way_has_a_page(url, verbs):
    steady = msgspec.structs.replace(verbs.traffic(P), evidence={}, state="steady", plan="split")
    verbs.traffic = lambda _: steady
    shown = httpx2.get(f"{url}/endpoints/{P}", trust_env=False, timeout=60)
    assert (shown.status_code, "split" in shown.text) == (200, True)


def test_the_page_of_a_prediction_says_what_each_input_did(url, verbs):
    made = verbs.prediction_list[0]

    def asked(**form):
        answer = httpx2.post(
            f"{url}/predictions/{made.id}", data=form, headers={"Origin": url}, trust_env=False,
            timeout=60,
        )  # fmt: skip
        assert answer.status_code == 200
        return answer.text

    told = asked(row="0")
    assert "<option selected>yes</option>" in told, "the class with the largest value"
    assert "5 others together" in told
    assert told.index("f0") < told.index("f1"), "the strongest first"
    assert "+0.3" in told
    assert "−0.15" in told
    other = asked(of="no")
    assert "<option selected>no</option>" in other
    assert "−0.3" in other
    verbs.no_shap = True
    assert "It cannot be explained: Explanations need shap" in asked()
    assert "clew[explain]" in asked()


def test_the_page_of_a_prediction_of_a_graph_leads_to_its_nodes(url, verbs):
    made = verbs.prediction_list[0]
    graph = msgspec.structs.replace(made, id=f"p{'g' * 16}", model_version="", parts=(made.id,))
    verbs.prediction_list.append(graph)
    shown = httpx2.get(f"{url}/predictions/{graph.id}", trust_env=False, timeout=60).text
    assert "A graph made it" in shown
    assert f'href="/predictions/{made.id}"' in shown
    assert 'method="post" action="/predictions' not in shown
