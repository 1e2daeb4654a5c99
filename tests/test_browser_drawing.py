"""What a page draws first, and that nothing which waits is lost: to theme, paper or an anchor."""

from pathlib import Path
from typing import Any

import pytest
from tests.browser import in_a_browser

pytestmark = in_a_browser

# At the moment at which the first figures stand: which do, and how high all are; then what a test
# does to the page while others still wait.
AT_FIRST = """
    window.said = [];
    const look = () => [...document.querySelectorAll(".plot")].map((plot) => ({
        name: plot.dataset.figure, isDrawn: plot.querySelector(".main-svg") !== null,
        height: plot.style.height, width: plot.querySelector(".main-svg")?.getAttribute("width"),
    }));
    const watch = new MutationObserver(() => {
        if (!document.documentElement.dataset.begun) return;
        watch.disconnect();
        window.first = look();
        DONE
        window.then = look();
    });
    watch.observe(document, {subtree: true, attributes: true, attributeFilter: ["data-begun"]});
"""
DRAWN = "html[data-drawn]"
HEIGHTS = "() => [...document.querySelectorAll('.plot')].map((plot) => plot.style.height)"
INKS = """() => [...document.querySelectorAll(".plot .xtick text")]
    .map((text) => getComputedStyle(text).fill)"""


@pytest.fixture
def report(digits_report: Path) -> Path:
    return digits_report


@pytest.fixture
def page(browser: Any) -> Any:
    context = browser.new_context(viewport={"width": 1400, "height": 900}, offline=True)
    yield context.new_page()
    context.close()


def _opened(page: Any, address: str, done: str = "") -> tuple[list[Any], list[Any]]:
    """What stood when the first figures did, and after what was done then; all is drawn by now."""
    page.on(
        "pageerror", lambda error: page.evaluate("(text) => window.said.push(text)", str(error))
    )
    page.add_init_script(AT_FIRST.replace("DONE", done))
    page.goto(address)
    page.wait_for_selector(DRAWN, state="attached", timeout=120_000)
    assert page.evaluate("window.said") == []
    return page.evaluate("window.first"), page.evaluate("window.then")


def _names(figures: list[Any]) -> set[str]:
    return {figure["name"] for figure in figures if figure["isDrawn"]}


def test_the_first_screen_is_drawn_first_and_nothing_moves_later(page: Any, report: Path) -> None:
    first, _ = _opened(page, report.as_uri())
    assert _names(first) == {"forest", "spent"}
    assert len(first) > 10
    assert page.evaluate(HEIGHTS) == [figure["height"] for figure in first]
    assert page.locator(".plot:not(:has(.main-svg))").count() == 0


def test_a_reader_who_comes_by_an_anchor_gets_its_figures_first(page: Any, report: Path) -> None:
    first, _ = _opened(page, f"{report.as_uri()}#time")
    assert "shares" in _names(first)
    assert not _names(first) & {"forest", "spent", "curves"}
    assert page.evaluate("scrollY") > 2000


def test_paper_gets_every_figure_while_some_still_wait(page: Any, report: Path) -> None:
    printing = "window.dispatchEvent(new Event('beforeprint'));"
    first, then = _opened(page, report.as_uri(), printing)
    assert len(_names(first)) < len(then)
    assert all(figure["isDrawn"] and figure["width"] == "680" for figure in then)
    assert page.locator("#trial-table tbody tr").count() == 60
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.locator("#trial-table tbody tr").count() == 15


def test_what_waits_when_the_theme_changes_is_drawn_in_the_new_one(page: Any, report: Path) -> None:
    first, then = _opened(page, report.as_uri(), "document.querySelector('#theme').click();")
    assert _names(first) == _names(then)
    dark = page.evaluate(INKS)
    page.click("#theme")
    assert not set(page.evaluate(INKS)) & set(dark)
    page.click("#theme")
    assert page.evaluate(INKS) == dark
    assert len(dark) > 50


def test_a_filter_set_before_the_scatter_is_drawn_holds_there(page: Any, report: Path) -> None:
    choose = """const choice = setInterval(() => {
        if (!document.querySelector("#trial-table tbody tr")) return;
        clearInterval(choice);
        window.waited = !document.querySelector("#plot-cost .main-svg");
        document.querySelector("input[name=family][value='1']").click();
    }, 0);"""
    _opened(page, report.as_uri(), choose)
    assert page.evaluate("window.waited")
    shown = page.locator("#plot-cost .scatterlayer .point").count()
    page.click("button[type=reset]")
    page.wait_for_selector("#count:text-is('60 trials')")
    assert 0 < shown < page.locator("#plot-cost .scatterlayer .point").count()
