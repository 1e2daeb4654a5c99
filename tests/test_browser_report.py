"""The report in a real browser, offline: drawn, silent, usable by keyboard, closed to scripts."""

from pathlib import Path
from typing import Any

import pytest
from tests.browser import Opened, Pages, in_a_browser
from tests.report_data import HOSTILE, Made, write_study

from torchstudy.analysis.tables import read_results
from torchstudy.report.page import write_report

FIGURES = 19

pytestmark = in_a_browser


@pytest.fixture
def report(digits_report: Path) -> Path:
    return digits_report


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(write_study(tmp_path_factory.mktemp("hostile"), Made(hostile=True)))


@pytest.fixture
def opened(pages: Pages) -> Opened:
    return pages()


@pytest.mark.parametrize(
    ("width", "scheme"), [(390, "light"), (1400, "light"), (1400, "dark"), (2560, "light")]
)
def test_the_page_is_drawn_in_silence_without_sideways_scrolling(
    pages: Pages, report: Path, width: int, scheme: str
) -> None:
    opened = pages(width, scheme)
    page = opened.page
    assert opened.said_at_first == []
    assert opened.requests == [report.as_uri()]
    assert page.locator("#trouble").is_hidden()
    assert page.locator(".plot").count() == FIGURES
    for index in range(FIGURES):
        plot = page.locator(".plot").nth(index)
        assert plot.locator(".main-svg").count() >= 1
        assert "could not be drawn" not in str(plot.text_content())
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(wide) == 0
    for selector in (".lead", ".tile .note", ".reasons .reason", ".changed td", "nav a"):
        assert _contrast(opened, selector) >= 4.5, selector


def test_every_point_and_every_seed_is_drawn(opened: Opened, report: Path) -> None:
    results = read_results(report.parent)
    assert opened.points() == int(results.values.notna().sum())
    # three marks for seeds, one for the mean and one for the promise, per family
    assert opened.page.locator("#plot-forest .scatterlayer .point").count() == 15
    assert opened.page.locator("#plot-forest .errorbars path").count() >= 3


def test_the_theme_button_redraws_the_figures(opened: Opened) -> None:
    light = opened.color("body", "backgroundColor")
    line = opened.color("#plot-spent .js-line", "stroke")
    opened.page.click("#theme")
    assert opened.page.get_attribute("#theme", "aria-pressed") == "true"
    assert opened.color("body", "backgroundColor") != light
    assert opened.color("#plot-spent .js-line", "stroke") != line
    opened.page.click("#theme")
    assert opened.color("body", "backgroundColor") == light
    assert opened.messages == []


def test_filters_narrow_table_and_scatter_together(opened: Opened, report: Path) -> None:
    results = read_results(report.parent)
    cnn = results.trials["family"] == "CNN"
    assert opened.count() == "60 trials"
    opened.page.uncheck("input[name=family][value='1']")
    opened.page.uncheck("input[name=family][value='2']")
    assert opened.count() == "20 of 60 trials"
    assert opened.points() == int(results.values[cnn].notna().sum())
    assert "latent" not in str(opened.page.locator("#trial-table thead").text_content())
    opened.page.fill("input[name=text]", "nan diverged")
    n = int((cnn & (results.trials["status"] == "diverged")).sum())
    assert opened.count() == f"{n} of 60 trials"
    assert opened.page.locator("#trial-table tbody tr").count() == n
    assert opened.points() == 0
    opened.page.click("button[type=reset]")
    opened.page.wait_for_selector("#count:text-is('60 trials')")
    assert opened.points() == int(results.values.notna().sum())
    assert opened.messages == []


def test_the_table_sorts_by_keyboard_and_turns_pages(opened: Opened, report: Path) -> None:
    page = opened.page
    page.click("th:has-text('Epochs') button")
    page.click("th:has-text('Best accuracy') button")
    best = read_results(report.parent).values.max()
    first = page.locator("#trial-table tbody tr").first.locator("td").nth(1)
    assert first.text_content() == f"{100 * best:.2f}%"
    assert page.locator("th[aria-sort=descending]").text_content() == "Best accuracy \u25be"
    page.focus("th:has-text('Time') button")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    assert "Time" in str(page.locator("th[aria-sort=ascending]").text_content())
    assert page.evaluate("document.activeElement.textContent").startswith("Time")
    assert page.locator("#page-number").text_content() == "Page 1 of 4"
    page.click("#next")
    assert page.locator("#page-number").text_content() == "Page 2 of 4"
    assert page.locator("#trial-table tbody tr").count() == 15
    page.click("th:has-text('Best accuracy') button")  # as other tests expect it


def test_csv_holds_what_is_shown(opened: Opened, report: Path) -> None:
    trials = read_results(report.parent).trials
    opened.page.uncheck("input[name=family][value='0']")
    head, *rows = opened.download()
    assert len(rows) == 40
    assert {row[head.index("family")] for row in rows} == {"Transfer", "AutoencoderProbe"}
    texts = [row[head.index("value")] for row in rows]
    values = sorted(float(text) for text in texts if text)
    other = trials[trials["family"] != "CNN"]["best_valid_accuracy"].dropna()
    assert values == sorted(other)
    assert "config.width" not in head


@pytest.mark.parametrize("width", [390, 1400])
def test_hostile_names_are_shown_as_text(browser: Any, hostile: Path, width: int) -> None:
    with Opened(browser, hostile, width=width) as opened:
        page = opened.page
        assert opened.messages == []
        assert opened.requests == [hostile.as_uri()]
        assert page.locator("img").count() == 0
        assert page.title() != "owned"
        for place in ("h1", "#plot-forest", "#trial-table tbody", "#configurations", "#failures"):
            assert "</script><i" in str(page.locator(place).text_content()), place
        assert opened.count() == "60 trials"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        head, *rows = opened.download()
        column = head.index(f"config.{HOSTILE}")
        assert {row[column][:5] for row in rows} == {"'=1+1"}
        assert {row[head.index("family")] for row in rows} == set(
            read_results(hostile.parent).families
        )


def test_the_policy_blocks_an_injected_script(opened: Opened) -> None:
    opened.page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "window.injected = true";
            document.head.append(script);
            const image = document.createElement("img");
            image.setAttribute("onerror", "window.injected = true");
            image.src = "https://example.com/x.png";
            document.body.append(image);
        }"""
    )
    opened.page.wait_for_timeout(200)
    assert opened.page.evaluate("window.injected") is None
    assert any("Content Security Policy" in message for message in opened.messages)
    opened.page.evaluate("document.querySelector('img[onerror]').remove()")


def test_paper_shows_the_whole_table_in_light_colours(opened: Opened) -> None:
    page = opened.page
    page.click("#theme")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.locator("#trial-table tbody tr").count() == 60
    assert opened.color("body", "backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("details:not([open])").count() == 0
    assert page.locator("#plot-curves .main-svg").first.get_attribute("width") == "680"
    page.emulate_media(media="screen")
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.locator("#trial-table tbody tr").count() == 15
    assert page.locator("details[open]").count() == 0
    page.click("#theme")
    assert opened.messages == []


def _contrast(opened: Opened, selector: str) -> float:
    """The contrast ratio of WCAG 2 between an element's text and what lies behind it."""
    script = """(selector) => {
        const luminance = (rgb) => {
            const [r, g, b] = rgb.map((v) => v / 255)
                .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
        const element = document.querySelector(selector);
        let behind = element;
        const isClear = (e) => (numbers(getComputedStyle(e).backgroundColor)[3] ?? 1) === 0;
        while (isClear(behind)) behind = behind.parentElement;
        const text = luminance(numbers(getComputedStyle(element).color).slice(0, 3));
        const back = luminance(numbers(getComputedStyle(behind).backgroundColor).slice(0, 3));
        return (Math.max(text, back) + 0.05) / (Math.min(text, back) + 0.05);
    }"""
    return float(opened.page.evaluate(script, selector))
