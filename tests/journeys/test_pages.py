"""What a person sees: the pages in a real browser, with a real server behind them."""

import importlib.util
import re
import shutil
from pathlib import Path

import pytest

CHROMIUM = "/usr/bin/chromium"
P = "late-flights"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(shutil.which(CHROMIUM) is None, reason="Debian's chromium is not installed"),
]


def _fixtures():
    place = Path(__file__).parents[1] / "unit" / "server" / "conftest.py"
    spec = importlib.util.spec_from_file_location("clew_tests_server_fixtures", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fixtures = _fixtures()
fake = fixtures.load_fake()


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-background-networking", "--disable-gpu"],
        )
        yield chromium
        chromium.close()


@pytest.fixture
def verbs():
    workspace = fake.FakeVerbs()
    workspace.store["/2013-06.txt"] = b"carrier,dep_delay"
    return workspace


@pytest.fixture
def url(verbs):
    with fixtures.served(verbs) as where:
        yield where


@pytest.fixture
def opened(browser, url):
    """A page that fails the test on any error in its console and any request elsewhere."""
    troubles = []
    contexts = []

    def watch(page):
        page.on(
            "console",
            lambda said: troubles.append(said.text) if said.type in ("error", "warning") else None,
        )
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on(
            "request",
            lambda asked: None if asked.url.startswith(url) else troubles.append(asked.url),
        )

    def open_page(path="/", **settings):
        context = browser.new_context(**settings)
        contexts.append(context)
        page = context.new_page()
        watch(page)
        page.goto(url + path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert troubles == []


def all_pages(verbs):
    return [
        "/", "/repos", f"/repos/{P}/flights", f"/commits/{verbs.commits[0].id}", "/pipelines",
        "/jobs", f"/jobs/{fake.ident('jobclean' + fake.BAD)}", "/experiments",
        f"/experiments/{verbs.detail.experiment.id}", "/models", f"/models/{verbs.versions[0].id}",
        "/endpoints", f"/endpoints/{P}", f"/drift/{fake.ident('drift')}",
        f"/predictions/{verbs.prediction_list[0].id}",
        "/triggers", f"/triggers/{P}/enough", "/sources", f"/sources/{P}/orders",
        f"/changes/{fake.JUNE}", f"/why/{verbs.prediction_list[0].id}", "/search", "/docs",
    ]  # fmt: skip


CONTRAST = """() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgb = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = (c) => c.slice(0, 3).map((v) => v / 255)
    .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const c = rgb(getComputedStyle(one).backgroundColor);
      if (c[3] === 255) return c;
    }
    return [255, 255, 255, 255];
  };
  const poor = [];
  for (const one of document.querySelectorAll("main *, header *, footer *")) {
    const own = [...one.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || one.closest("svg") || !one.checkVisibility()) continue;
    const a = light(rgb(getComputedStyle(one).color)), b = light(ground(one));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push([one.className, one.textContent.trim().slice(0, 20), ratio]);
  }
  return poor;
}"""


@pytest.mark.parametrize(
    ("scheme", "nth"), [("light", 1), ("dark", 4), pytest.param("dark", 1, marks=pytest.mark.slow)]
)
def test_every_page_is_readable_in_both_schemes_and_asks_nobody_else(
    opened, verbs, url, scheme, nth
):
    page = opened("/", color_scheme=scheme)
    for path in all_pages(verbs)[::nth]:
        page.goto(url + path)
        assert page.locator("h1").count() == 1, path
        assert page.evaluate(CONTRAST) == [], path


def test_every_page_fits_a_phone(opened, verbs, url):
    page = opened("/", viewport={"width": 360, "height": 740})
    for path in all_pages(verbs):
        page.goto(url + path)
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, path


@pytest.mark.parametrize("width", [1280, 360])
def test_a_prediction_is_explained_where_it_is_shown(opened, verbs, width):
    page = opened(f"/endpoints/{P}", viewport={"width": width, "height": 800})
    page.locator(f"a[href='/predictions/{verbs.prediction_list[0].id}']").first.click()
    page.get_by_role("button", name="Explain").click()
    bars = page.locator("[data-plot=pushes] g.bar")
    assert bars.count() == 16
    assert bars.first.locator("text").last.text_content() == "+0.3"
    assert page.locator("[data-plot=pushes] g.less").count() == 8
    assert page.evaluate(CONTRAST) == []
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    page.get_by_label("Class").select_option("no")
    page.get_by_role("button", name="Explain again").click()
    assert bars.first.locator("text").last.text_content() == "−0.3"


def test_a_page_is_whole_without_javascript(opened):
    page = opened(f"/endpoints/{P}", java_script_enabled=False)
    assert page.get_by_text("Roll back").is_visible()
    assert page.locator(".copy:visible").count() == 0
    page.get_by_role("link", name="Jobs", exact=True).click()
    assert page.locator("tbody tr").count() == 12


def test_a_page_stays_fresh_by_itself(opened, verbs):
    page = opened("/")
    page.get_by_text("retrain: drift").wait_for()
    until_it_follows(page)
    verbs.job_list[1] = fake.job("model", "train", fake.ident("now"), 0.6, "done", 16, reason="ok")
    verbs.happen("job.ended", verbs.job_list[1].id)
    page.get_by_text("retrain: drift").first.wait_for(state="detached")
    assert page.locator("[data-live=now] li").count() == 1


def until_it_follows(page):
    """The page hears of events. Playwright's own waiting evaluates text, which pages forbid."""
    while not page.evaluate("source !== null && source.readyState === 1"):
        page.wait_for_timeout(20)


def test_what_is_open_stays_open_when_the_page_is_refreshed(opened, verbs):
    page = opened(f"/changes/{fake.JUNE}")
    until_it_follows(page)
    page.get_by_text("7 events").click()
    verbs.happen("job.ended", "more")
    page.get_by_text("8 events").wait_for()
    assert page.locator("#events").evaluate("one => one.open")


def test_an_id_is_copied_whole(opened, verbs):
    page = opened("/models", permissions=["clipboard-read", "clipboard-write"])
    page.locator(f"[data-copy='{verbs.versions[0].id}']").click()
    assert page.evaluate("navigator.clipboard.readText()") == verbs.versions[0].id


def test_search_finds_a_prediction_and_its_thread_leads_to_the_raw_file(opened, verbs):
    page = opened("/")
    prediction = verbs.prediction_list[0].id
    page.get_by_role("searchbox").fill(prediction[:9])
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(f"/predictions/{prediction}"))
    page.get_by_role("link", name="Where it came from").click()
    page.wait_for_url(re.compile(f"/why/{prediction}"))
    drawn = page.locator("svg .box")
    tops = drawn.evaluate_all("all => all.map((one) => one.getBoundingClientRect().top)")
    kinds = drawn.locator(".box-kind").all_text_contents()
    assert kinds[tops.index(min(tops))] == "prediction"
    assert "file" in kinds
    page.locator("svg a", has_text=f"{P}/model@2").click()
    page.wait_for_url(re.compile("/models/"))
    assert page.get_by_text("champion").first.is_visible()


def test_a_trial_and_its_line_light_up_together(opened, verbs):
    page = opened(f"/experiments/{verbs.detail.experiment.id}")
    page.locator("tr[data-trial='4']").hover()
    page.locator("g.trial.lit[data-trial='4']").first.wait_for()
    of_it = page.locator("g.trial[data-trial='4']").count()
    assert page.locator("g.trial.lit").count() == of_it >= 2


def test_the_keyboard_reaches_everything_and_shows_where_it_is(opened):
    page = opened("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    for _ in range(3):
        page.keyboard.press("Tab")
    width = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
    assert width == "2px"


def test_a_refused_version_is_deployed_only_with_a_name_and_a_reason(opened, verbs):
    page = opened(f"/models/{verbs.versions[0].id}")
    page.get_by_role("button", name="Deploy anyway").click()
    assert verbs.asked == []  # the browser asks for the fields
    page.get_by_label("Your name").fill("ada")
    page.get_by_label("Reason").fill("a drill")
    page.get_by_role("button", name="Deploy anyway").click()
    page.wait_for_url(re.compile(f"/endpoints/{P}"))
    assert verbs.asked == [("deploy", P, verbs.versions[0].id, "ada", "a drill")]


def test_a_person_logs_in_and_out(browser, verbs):
    with fixtures.served(verbs, token="s3cret") as url:
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{url}/jobs")
        page.get_by_label("Token of this server").fill("s3cret")
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url(f"{url}/jobs")
        page.get_by_role("button", name="Log out").click()
        page.wait_for_url(re.compile("/login"))
        page.goto(f"{url}/jobs")
        assert "/login" in page.url
        context.close()
