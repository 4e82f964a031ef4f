"""The site: built strictly, every link leads somewhere, nothing is loaded from elsewhere."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

import slm_energy
from slm_energy.cli.main import VERBS
from tests import browsing
from tests.docs.conftest import PAGES, ROOT

MOST_WORDS = 900
"""Of the README."""


class Page(HTMLParser):
    """What a page of the site links to, loads, and can be linked to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.ids: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attrs if value}
        self.ids |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag == "link" and values.get("rel") not in ("prev", "next"):
            self.loaded.append(values["href"])
        if "src" in values:
            self.loaded.append(values["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path.resolve(): Page(path) for path in site.rglob("*.html") if path.name != "404.html"}


def test_the_site_has_every_page(site: Path) -> None:
    built = {path.relative_to(site).with_suffix("") for path in site.rglob("*.html")}
    assert built >= {p.relative_to(ROOT / "docs").with_suffix("") for p in PAGES[1:]}


def test_every_link_leads_to_a_page_and_a_place_on_it(pages: dict[Path, Page]) -> None:
    for page in pages.values():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme:
                assert parts.scheme == "https", f"{page.path.name}: {link}"
                continue
            path = (page.path.parent / unquote(parts.path)).resolve() if parts.path else page.path
            assert path.is_file(), f"{page.path.name}: {link}"
            if parts.fragment and path.resolve() in pages:
                ids = pages[path.resolve()].ids
                assert unquote(parts.fragment) in ids, f"{page.path.name}: {link}"


def test_nothing_is_loaded_from_another_place(pages: dict[Path, Page]) -> None:
    for page in pages.values():
        for address in page.loaded:
            assert not urlsplit(address).netloc, f"{page.path.name}: {address}"
            assert (page.path.parent / unquote(urlsplit(address).path)).is_file(), address


def test_the_reference_has_every_verb_and_every_public_name(site: Path) -> None:
    ids = Page(site / "reference" / "verbs.html").ids
    assert set(VERBS) <= ids
    ids = Page(site / "reference" / "python.html").ids
    assert {f"slm_energy.{name}" for name in slm_energy.__all__ if name != "__version__"} <= ids


def test_the_readme_is_short() -> None:
    assert len(PAGES[0].read_text(encoding="utf-8").split()) <= MOST_WORDS


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    browsing.install()
    with browsing.chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_figure_is_legible_in_light_and_dark_and_on_a_phone(
    browser: Chrome, site: Path, scheme: str
) -> None:
    screen = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browsing.prefer(browser, scheme)
    for name in ("explanation/joules", "explanation/not-covered", "seed-study", "reference/keys"):
        browser.get((site / f"{name}.html").as_uri())
        assert browser.execute_script("return document.documentElement.scrollWidth") == 390, name
        assert not browser.get_log("browser")
    browser.get((site / "explanation" / "joules.html").as_uri())
    ink, page = browser.execute_script(
        "return [getComputedStyle(document.querySelector('.fig text')).fill,"
        " getComputedStyle(document.body).backgroundColor]"
    )
    assert abs(_lightness(ink) - _lightness(page)) > 120
    assert (_lightness(page) > 128) == (scheme == "light")


def _lightness(colour: str) -> float:
    red, green, blue = (float(part) for part in colour.strip("rgba()").split(",")[:3])
    return 0.3 * red + 0.6 * green + 0.1 * blue


def test_the_search_works_on_files(browser: Chrome, site: Path) -> None:
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.get((site / "index.html").as_uri())
    browser.find_element(By.CSS_SELECTOR, "input.md-search__input").send_keys("calibrate", Keys.END)

    def found(driver: Chrome) -> bool:
        titles = driver.find_elements(By.CSS_SELECTOR, ".md-search-result__item h1")
        return any("wall" in title.text for title in titles)

    WebDriverWait(browser, browsing.WAIT_S).until(found)
