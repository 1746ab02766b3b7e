"""MLflow's own pages under this server's origin, behind its login, in a real browser."""

import json
import shutil
import urllib.request

import pytest

CHROMIUM = "/usr/bin/chromium"
TOKEN = "a-long-random-token"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(shutil.which(CHROMIUM) is None, reason="Debian's chromium is not installed"),
]


@pytest.fixture(scope="module")
def place(place_at, tmp_path_factory):
    place = place_at(tmp_path_factory.mktemp("pages") / "here", CLEW_TOKEN=TOKEN)
    place.clew("init", "--bare", ".")
    yield place
    place.close()


@pytest.fixture(scope="module")
def server(place):
    return place.server()


@pytest.fixture(scope="module")
def run(server):
    """A run with a curve of ten steps, as any client would log it."""

    def post(call, body):
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
        url = f"{server.url}/api/2.0/mlflow/{call}"
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    experiment = post("experiments/create", {"name": "night flights"})["experiment_id"]
    body = {"experiment_id": experiment, "run_name": "owl", "start_time": 1_700_000_000_000}
    run = post("runs/create", body)["run"]["info"]["run_id"]
    for step in range(10):
        body = {"run_id": run, "key": "loss", "value": 1 / (step + 1), "step": step}
        post("runs/log-metric", body | {"timestamp": 1_700_000_000_000 + step})
    return experiment, run


@pytest.fixture
def page(server):
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-background-networking", "--disable-gpu"],
        )
        page = chromium.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(120_000)
        yield page
        chromium.close()


def test_after_the_login_the_pages_show_experiments_and_the_curve_of_a_run(page, server, run):
    experiment, run = run
    elsewhere = []
    page.on(
        "request",
        lambda one: (
            elsewhere.append(one.url)
            if one.url.startswith("http") and not one.url.startswith(server.url)
            else None
        ),
    )
    refused = []
    page.on(
        "console", lambda one: refused.append(one.text) if "Content Security" in one.text else None
    )
    page.goto(f"{server.url}/mlflow/")
    assert "/login" in page.url
    page.fill("input[name=token]", TOKEN)
    page.get_by_role("button", name="Log in").click()
    page.get_by_text("night flights").first.wait_for()
    page.goto(f"{server.url}/mlflow/#/experiments/{experiment}/runs/{run}/model-metrics")
    page.get_by_text("owl").first.wait_for()
    page.locator("svg.main-svg path.js-line").first.wait_for(state="attached")
    assert page.get_by_text("loss").first.is_visible()
    # What a client prints as the address of its run leads here too.
    page.goto("about:blank")
    page.goto(f"{server.url}/#/experiments/{experiment}/runs/{run}")
    page.wait_for_url("**/mlflow/**")
    page.get_by_text("owl").first.wait_for()
    assert not elsewhere
    assert not refused
