"""What a person sees in a real browser: the MLflow UI on a study, and the page of its report."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient
from selenium.common.exceptions import (
    NoSuchFrameException,
    NoSuchWindowException,
    StaleElementReferenceException,
)
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from slm_energy.analysis import build, options
from slm_energy.analysis.render.generated import Generated
from slm_energy.analysis.render.html import to_html
from slm_energy.config.groups import TrackingConfig
from slm_energy.store.shared_view import address
from slm_energy.store.tracking import Store
from slm_energy.testing import CONF
from slm_energy.testing.powercap import PowercapTree, Zone
from slm_energy.testing.waveform import constant
from tests import browsing
from tests.analysis.conftest import make_study
from tests.conftest import LENIENT, in_process, ready_store

SWEEP = (
    *("-m", "--config-dir", str(CONF), "engine=scripted", "engine.decode=session,generate"),
    *("study.rounds=2", "workload.limit=3", "workload.new_tokens=4", *LENIENT),
    *("measurement=strict", "measurement.baseline_s=0.1"),
    "measurement.serve_s=1.5",  # gauges of the machine are read once a second
)
HOSTILE = (
    "</pre><script>document.title='run'</script>"
    "<img src=x onerror=\"document.title='run'\"><style>body{display:none}</style>"
    "[link](javascript:alert(1)) \x1b[31mred\u202edesrever"
)


@dataclass(frozen=True, kw_only=True)
class Served:
    """A study in the MLflow UI: addresses of its view and of its runs' pages."""

    view: str
    table: str
    trial: str
    parent: str


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    browsing.install()
    with browsing.chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    ready_store(folder / "mlruns", empty_store)
    store = Store(TrackingConfig(name="local", folder=str(folder / "mlruns")))
    store.set_view("default", ["energy/per_output_token_j"])  # of the study that is to come
    port = browsing.free_port()
    server_url = f"http://127.0.0.1:{port}"
    opened = folder / "opened"
    shell = f"sh -c 'echo \"$0\" > {opened}' %s"
    command = [sys.executable, "-m", "slm_energy", "ui", f"port={port}", "open=true"]
    with (folder / "ui.log").open("w") as log:
        server = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, env={**os.environ, "BROWSER": shell}
        )
    try:
        study, trial, sweep = measured(folder)
        browsing.fetched(server_url)
        assert opened.read_text().strip() == address(server_url, study)
        table = f"{server_url}/#/experiments/{study}/runs"
        view = address(server_url, study)
        yield Served(view=view, table=table, trial=f"{table}/{trial}", parent=f"{table}/{sweep}")
    finally:
        server.terminate()
        server.wait(timeout=30)
    with pytest.raises(urllib.error.URLError):  # nothing of it is left behind
        urllib.request.urlopen(server_url, timeout=5)


def measured(folder: Path) -> tuple[str, str, str]:
    """Run the sweep on counters that say 50 W; ids of its experiment, of a trial and of itself."""
    root = folder / "powercap"
    root.mkdir()
    zone = Zone(folder="intel-rapl:0", name="package-0", waveform=constant(50))
    with PowercapTree(root, [zone]), contextlib.chdir(folder):
        done = in_process([*SWEEP, f"measurement.powercap_root={root}"])
    assert done.returncode == 0, done.stdout + done.stderr
    client = MlflowClient(f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("default")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    ids = {run.data.tags["slm.kind"]: run.info.run_id for run in runs}
    return experiment.experiment_id, ids["trial"], ids["sweep"]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a report with everything on it, and a hostile completion."""
    frame = make_study({"torch/cpu": 0.03, "onnx/cpu": 0.012, "openvino/cpu": 0.013})
    sample = Generated(label="torch", task_id="task/1", completion=HOSTILE)
    path = tmp_path_factory.mktemp("page") / "report.html"
    report = build(frame, options({"study": "<b>toy</b>"}))
    path.write_text(to_html(report, [sample]), encoding="utf-8")
    return path.as_uri()


def shows(driver: Chrome, *words: str, frame: bool = False) -> None:
    """Wait until the page, or what it shows in a frame, has all words."""

    def there(_: Chrome) -> bool:
        if frame:
            driver.switch_to.default_content()
            driver.switch_to.frame(driver.find_element(By.TAG_NAME, "iframe"))
        text = driver.find_element(By.TAG_NAME, "body").text
        return all(word in text for word in words)

    # The UI replaces what it has just shown while its data arrives.
    replaced = (StaleElementReferenceException, NoSuchFrameException, NoSuchWindowException)
    wait = WebDriverWait(driver, browsing.WAIT_S, ignored_exceptions=replaced)
    wait.until(there, f"the page never showed {words}")


def opened(driver: Chrome, address: str) -> None:
    """Open a page of the UI anew: its address differs only behind the #."""
    driver.get("about:blank")
    driver.get(address)


def test_the_table_of_runs(browser: Chrome, served: Served) -> None:
    opened(browser, served.table)
    shows(browser, "Training runs", "sweep ", "5 matching runs")


def test_the_view_of_a_study_has_its_energy_and_charts(browser: Chrome, served: Served) -> None:
    opened(browser, served.view)
    shows(browser, "Energy per cell", "Sort: energy/per_output_token_j", "4 matching runs")
    shows(browser, "Cheapest configuration", "decode=session / r01", "decode=generate / r02")
    headers = {each.text for each in browser.find_elements(By.CSS_SELECTOR, "[role=columnheader]")}
    assert "energy/per_output_token_j" in headers
    [picture] = browser.find_elements(By.CSS_SELECTOR, "img[src*=get-artifact]")
    drawn = "return arguments[0].naturalWidth"
    WebDriverWait(browser, browsing.WAIT_S).until(lambda d: d.execute_script(drawn, picture) > 0)
    opened(browser, f"{served.view}&compareRunsMode=CHART")
    sections = "Energy\n(1)", "Other metrics\n(3)", "latency\n", "contamination\n", "sampler\n"
    shows(browser, *sections)
    text = browser.find_element(By.TAG_NAME, "body").text
    assert text.index("latency\n") < text.index("contamination\n") < text.index("sampler\n")


def test_a_trial_says_what_came_of_it(browser: Chrome, served: Served) -> None:
    opened(browser, served.trial)
    shows(browser, "bundled / scripted / cpu / decode=", "energy per output token (measured)")


def test_its_generations_are_a_table(browser: Chrome, served: Served) -> None:
    opened(browser, f"{served.trial}/artifacts/outputs/generations.json")
    shows(browser, "View as table", "completion", "slm/0", "def mask_middle")


def test_its_series_are_system_metrics(browser: Chrome, served: Served) -> None:
    opened(browser, f"{served.trial}/system-metrics")
    shows(browser, "cpu_utilization_percentage", "process_memory_megabytes")


def test_the_sweep_shows_its_report_with_its_style(browser: Chrome, served: Served) -> None:
    opened(browser, served.parent)
    shows(browser, "4 of 4 trials valid", "per output token", "study.rounds")
    shows(browser, "energy/per_output_token_j/scripted cpu decode-session", "saving_pct/")
    opened(browser, f"{served.parent}/artifacts/report.html")
    words = ("Study default", "energy measured", "Findings", "Generated code")
    try:
        shows(browser, *words, frame=True)
        section = browser.find_element(By.TAG_NAME, "section")
        assert section.value_of_css_property("border-top-left-radius") == "10px"
        [bar, *_] = browser.find_elements(By.CSS_SELECTOR, "svg .mean")
        assert bar.value_of_css_property("fill") != "rgb(0, 0, 0)"
    finally:
        browser.switch_to.default_content()


def test_the_page_shows_hostile_text_and_runs_none_of_it(browser: Chrome, page: str) -> None:
    browser.get_log("browser")
    browser.get(page)
    assert browser.title == "Study <b>toy</b>"
    assert browser.find_element(By.TAG_NAME, "h1").text == "Study <b>toy</b>"
    shown = browser.find_element(By.TAG_NAME, "pre").text
    assert shown == HOSTILE.replace("\x1b", "␛").replace("\u202e", "<U+202E>")
    assert not browser.find_elements(By.CSS_SELECTOR, "script, img, [onerror]")
    assert browser.get_log("browser") == []


def test_the_policy_of_the_page_stops_what_would_run_if_it_were_markup(
    browser: Chrome, page: str
) -> None:
    browser.get(page)
    browser.execute_script(
        "const p = document.createElement('p');"
        "p.innerHTML = '<img src=x onerror=\"document.title = 1\">';"
        "document.body.append(p);"
    )
    refused = WebDriverWait(browser, browsing.WAIT_S).until(lambda d: d.get_log("browser"))
    assert all("Content Security Policy" in entry["message"] for entry in refused)
    assert browser.title == "Study <b>toy</b>"


@pytest.mark.parametrize(
    ("scheme", "dark"), [("light", False), ("dark", True)], ids=["light", "dark"]
)
def test_the_page_follows_the_preferred_scheme(
    browser: Chrome, page: str, scheme: str, dark: bool
) -> None:
    browsing.prefer(browser, scheme)
    try:
        browser.get(page)
        body = browser.find_element(By.TAG_NAME, "body")
        label = browser.find_element(By.CSS_SELECTOR, "svg.fig text")
        assert (brightness(body, "background-color") < 60) is dark
        assert (brightness(body, "color") > 190) is dark
        assert (brightness(label, "fill") > 130) is dark
    finally:
        browsing.prefer(browser, "")


def brightness(element: WebElement, name: str) -> float:
    """Mean of the three colours, 0 to 255."""
    found = element.value_of_css_property(name)
    parts = found[found.index("(") + 1 :].rstrip(")").split(",")[:3]
    return sum(map(float, parts)) / 3


def test_the_keyboard_reaches_all_that_scrolls_or_opens(browser: Chrome, page: str) -> None:
    browser.get(page)
    focus = Keyboard(browser)
    assert focus.next().text == "Skip to the answer"
    focus.press(Keys.ENTER)
    assert browser.current_url.endswith("#answer")
    reached = [focus.next() for _ in range(12)]
    assert "region" in {each.get_attribute("role") for each in reached}
    summary = focus.until(lambda element: element.tag_name == "summary")
    folded = summary.find_element(By.XPATH, "..")
    assert folded.get_attribute("open") is None
    focus.press(Keys.ENTER)
    assert folded.get_attribute("open") is not None
    focus.until(lambda element: element.tag_name == "pre")


class Keyboard:
    """What the Tab key leads to."""

    def __init__(self, driver: Chrome) -> None:
        self._driver = driver

    def press(self, key: str) -> None:
        self._driver.switch_to.active_element.send_keys(key)

    def next(self) -> WebElement:
        self.press(Keys.TAB)
        return self._driver.switch_to.active_element

    def until(self, wanted: Callable[[WebElement], bool]) -> WebElement:
        for _ in range(200):
            if wanted(found := self.next()):
                return found
        raise AssertionError("200 steps did not lead there")


def test_figures_have_a_text_and_regions_have_a_name(browser: Chrome, page: str) -> None:
    browser.get(page)
    figures = browser.find_elements(By.CSS_SELECTOR, "figure svg[role=img]")
    assert len(figures) >= 4
    for figure in figures:
        assert figure.accessible_name
        assert figure.find_element(By.TAG_NAME, "desc").get_attribute("textContent")
    browser.execute_script("document.querySelectorAll('details').forEach(e => (e.open = true))")
    for region in browser.find_elements(By.CSS_SELECTOR, "[role=region]"):
        assert region.accessible_name


CLIPPED = """
const found = [], width = document.documentElement.clientWidth;
if (document.documentElement.scrollWidth > width) found.push("the page scrolls sideways");
const boxes = document.querySelectorAll(arguments[0]);
for (const box of boxes)
    if (box.scrollWidth > box.clientWidth + 1) found.push(box.textContent.trim().slice(0, 60));
for (const figure of document.querySelectorAll("figure svg.fig")) {
    const edge = figure.getBoundingClientRect();
    for (const mark of figure.querySelectorAll("text, rect, circle, line, path, polyline")) {
        const at = mark.getBoundingClientRect();
        if (edge.width && (at.left < edge.left - 2 || at.right > edge.right + 2))
            found.push(`${mark.tagName} ${mark.textContent} in ${figure.textContent.slice(0, 60)}`);
    }
}
return found;
"""
"""What is wider than its place: boxes of a selector, marks of figures, the page."""


@pytest.mark.parametrize("width", [390, 580, 1400])
def test_no_figure_is_clipped_at_any_width(browser: Chrome, page: str, width: int) -> None:
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    try:
        browser.get(page)
        assert browser.execute_script(CLIPPED, "figure, figcaption, section > p") == []
        label = browser.find_element(By.CSS_SELECTOR, "svg.fig text")
        assert label.value_of_css_property("font-size") == "13px"
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


ABOVE = """
return [...document.querySelectorAll("figure, tr")]
    .filter(each => each.getBoundingClientRect().height > arguments[0])
    .map(each => each.textContent.slice(0, 60));
"""
"""What no page of that height has room for: a figure, a row of a table."""


@pytest.fixture(scope="module")
def long_page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a report on 40 cells of one family: more than a figure has room for."""
    costs = {f"engine_{n}/cpu": 0.01 * 1.02**n for n in range(40)}
    report = build(make_study(costs, rounds=4), options({"study": "long", "draws": 999}))
    path = tmp_path_factory.mktemp("page") / "long.html"
    path.write_text(to_html(report), encoding="utf-8")
    return path.as_uri()


def test_of_many_cells_the_best_are_shown_at_once_and_all_are_folded(
    browser: Chrome, long_page: str
) -> None:
    browser.get(long_page)
    shown = browser.find_element(By.CSS_SELECTOR, "#answer > figure")
    assert "24 cells, a reference among them; all 40 are below" in shown.text
    names = [each.text for each in shown.find_elements(By.TAG_NAME, "text")]
    assert sum(name.startswith("engine_") for name in names) == 24
    folded = browser.find_elements(By.CSS_SELECTOR, "#answer details figure")
    assert len(folded) == 2  # of 20 cells each
    assert not folded[0].is_displayed()


@pytest.mark.parametrize("size", [(8.27, 11.69), (8.5, 11)], ids=["A4", "Letter"])
def test_a_printed_report_has_its_text_on_as_few_pages_as_it_fills(
    browser: Chrome, long_page: str, size: tuple[float, float]
) -> None:
    browser.get(long_page)
    paper = {"paperWidth": size[0], "paperHeight": size[1], "printBackground": True}
    printed = b64decode(browser.execute_cdp_cmd("Page.printToPDF", paper)["data"])
    pages = len(re.findall(rb"/Type /Page\b", printed))
    with on_paper(browser):
        browser.get(long_page)
        assert browser.execute_script(CLIPPED, "figure, .scroll, pre") == []
        assert browser.execute_script(ABOVE, 960) == []
        height = browser.execute_script("return document.body.scrollHeight")
    assert height / 1040 <= pages <= 1.3 * height / 940


@contextmanager
def on_paper(driver: Chrome) -> Iterator[None]:
    """Lay pages out as for paper of 190 mm without its margins."""
    paper = {"width": 718, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", paper)
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        yield
    finally:
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_paper_shows_what_is_folded_and_cuts_no_table(browser: Chrome, page: str) -> None:
    with on_paper(browser):
        browser.get(page)
        assert browser.execute_script(CLIPPED, "figure, .scroll, pre") == []
        folded = browser.find_elements(By.CSS_SELECTOR, "details table")
        assert folded
        assert all(table.size["height"] > 0 for table in folded)
        assert browser.execute_script(ABOVE, 960) == []
