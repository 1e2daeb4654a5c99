"""Every trial in a real browser: lines, conditions, the drawer and its keys, accessibility."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.browser import Opened, Pages, in_a_browser
from tests.example_records import write_records
from tests.report_data import HOSTILE, Made, write_study

from torchstudy.analysis.examples import read_examples
from torchstudy.analysis.tables import read_results
from torchstudy.execution.examples import write_examples
from torchstudy.report import examples
from torchstudy.report.page import write_report

pytestmark = in_a_browser

CENTRED = "(element) => element.scrollIntoView({block: 'center', behavior: 'instant'})"

FAMILIES = ("CNN", "Transfer", "AutoencoderProbe")
FOCUSED = "document.activeElement.id || document.activeElement.dataset.row"


@pytest.fixture
def report(digits_report: Path) -> Path:
    return digits_report


@pytest.fixture
def opened(pages: Pages) -> Opened:
    return pages()


def _middle(opened: Opened, selector: str) -> tuple[float, float]:
    box = opened.page.locator(selector).bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_every_trial_has_a_line_and_filters_take_lines_away(opened: Opened) -> None:
    assert [opened.lines(place) for place in range(3)] == [20, 20, 20]
    opened.page.uncheck("input[name=family][value='0']")
    assert [opened.lines(place) for place in range(3)] == [0, 20, 20]
    opened.page.uncheck("input[name=status][value=completed]")
    shown = [opened.lines(place) for place in range(3)]
    assert opened.count() == f"{sum(shown)} of 60 trials"
    assert len(opened.download()) - 1 == sum(shown)
    assert opened.messages == []


def test_trials_without_a_value_are_dashed_and_counted(opened: Opened, report: Path) -> None:
    results = read_results(report.parent)
    for place, family in enumerate(FAMILIES):
        missing = int(results.values[results.trials["family"] == family].isna().sum())
        assert opened.page.locator(f"#parallel-{place} .line.none").count() == missing
        said = str(opened.page.locator(f"#parallel-{place}-lines").text_content())
        assert said.startswith("20 trials, one line each.")
        assert (f"Dashed: {missing} without" in said) == bool(missing)


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ("epochs>9", lambda t: t["epochs"] > 9),
        ("learning_rate=0.001..0.01", lambda t: t["config.learning_rate"].between(0.001, 0.01)),
        ("Optimizer=SGD", lambda t: t["config.optimizer"] == "sgd"),
        ("accuracy>=95%", lambda t: t["best_valid_accuracy"] >= 0.95),
        ("status=diverged|crashed", lambda t: t["status"].isin(["diverged", "crashed"])),
        (
            "width<=40 norm=batch",
            lambda t: (
                (t["config.width"].fillna(99) <= 40) & t["config.norm"].eq("batch").fillna(False)
            ),
        ),
    ],
)
def test_a_condition_in_the_search_is_about_a_column(
    opened: Opened, report: Path, words: str, kept: Any
) -> None:
    table = read_results(report.parent).trials
    wanted = table[kept(table).fillna(False).astype(bool)]
    opened.page.fill("#words", words)
    head, *rows = opened.download()
    found = {(row[head.index("family")], int(row[head.index("trial")])) for row in rows}
    assert found == set(zip(wanted["family"], wanted["trial"], strict=True))
    assert 0 < len(rows) < 60
    assert opened.count() == f"{len(rows)} of 60 trials"
    assert sum(opened.lines(place) for place in range(3)) == len(rows)
    assert opened.points() == int(wanted["best_valid_accuracy"].notna().sum())


def test_a_condition_on_no_column_is_a_word(opened: Opened) -> None:
    opened.page.fill("#words", "nonsense>3")
    assert opened.count() == "0 of 60 trials; no column is called nonsense"
    opened.page.fill("#words", "=")
    assert opened.messages == []


def test_dragging_along_an_axis_filters_everything_and_a_click_undoes_it(opened: Opened) -> None:
    page = opened.page
    page.locator("#parallel-0").scroll_into_view_if_needed()
    page.locator("#parallel-0").evaluate(CENTRED)
    rail = page.locator("#parallel-0 .rail").first.bounding_box()
    x, top, bottom = rail["x"] + rail["width"] / 2, rail["y"], rail["y"] + rail["height"]
    page.mouse.move(x, top + 1)
    page.mouse.down()
    page.mouse.move(x, (top + bottom) / 2, steps=4)
    page.mouse.up()
    words = str(page.input_value("#words"))
    assert words.startswith("learning_rate=")
    low, high = map(float, words.partition("=")[2].split(".."))
    assert 0.002 < low < 0.006
    assert 0.09 < high <= 0.1
    assert opened.count().endswith("of 60 trials")
    assert page.locator("#drawer").is_hidden()
    assert page.locator("#parallel-0 .brush").count() == 1
    assert page.locator("#parallel-1 .brush").count() == 1
    page.mouse.click(*_middle(opened, "#parallel-0 .brush"))
    assert page.input_value("#words") == ""
    assert opened.count() == "60 trials"
    assert page.locator("#drawer").is_hidden()


def test_the_drawer_opens_by_keyboard_and_gives_the_focus_back(
    opened: Opened, report: Path
) -> None:
    page = opened.page
    first = page.locator("#trial-table tbody button").first
    first.focus()
    row = page.evaluate(FOCUSED)
    page.keyboard.press("Enter")
    results = read_results(report.parent)
    best = results.trials.loc[results.values.idxmax()]
    title = f"{best['family']}, trial {best['trial']}"
    assert page.locator("#drawer-title").text_content() == title
    page.wait_for_selector("#drawer-curve .js-line", state="attached")
    assert page.evaluate(FOCUSED) == "drawer-title"
    said = " ".join(str(page.locator("#drawer").inner_text()).split())
    for words in ("completed", str(int(best["epochs"])), "learning_rate", "Recipe", "1 of 60"):
        assert words in said
    page.keyboard.press("ArrowRight")
    assert page.locator("#drawer-title").text_content() != title
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Tab")
    assert page.evaluate(FOCUSED) == "drawer-next"  # there is none before the first
    page.keyboard.press("Escape")
    assert page.locator("#drawer").is_hidden()
    assert page.evaluate(FOCUSED) == row
    assert opened.messages == []


def test_the_drawer_says_why_a_trial_ended_and_what_would_help(opened: Opened) -> None:
    page = opened.page
    page.fill("#words", "status=diverged")
    page.click("#trial-table tbody td >> nth=3")
    words = str(page.locator("#drawer-words").text_content())
    assert "Reason" in words
    assert "try a smaller learning rate" in words
    assert page.locator("#drawer-curve").is_hidden()
    assert "No epoch" in str(page.locator("#drawer-curve-about").text_content())


def test_the_curve_of_the_drawer_has_every_epoch(opened: Opened, report: Path) -> None:
    page = opened.page
    page.fill("#words", "status=completed family=transfer")
    page.click("#trial-table tbody button >> nth=1")
    page.locator("#drawer-curve .js-line").nth(1).wait_for(state="attached")
    title = str(page.locator("#drawer-title").text_content())
    epochs = read_results(report.parent).epochs
    trial = int(title.rpartition(" ")[2])
    seeds = read_results(report.parent).trials
    seed = seeds[(seeds["family"] == "Transfer") & (seeds["trial"] == trial)]["seed"].iloc[0]
    own = epochs[(epochs["family"] == "Transfer") & (epochs["seed"] == seed)]
    drawn = page.evaluate("document.querySelector('#drawer-curve').data[1].y")
    errors = (1 - own.sort_values("epoch")["valid_accuracy"]).tolist()
    assert drawn == pytest.approx(errors, abs=6e-6)


def _on_line(opened: Opened, selector: str) -> tuple[float, float]:
    x, y = opened.page.evaluate(
        """(selector) => {
            const line = document.querySelector(selector);
            const at = line.getPointAtLength(line.getTotalLength() * 0.05);
            const box = line.ownerSVGElement.getBoundingClientRect();
            return [box.left + at.x, box.top + at.y];
        }""",
        selector,
    )
    return x, y


def _open_by_mouse(opened: Opened, selector: str) -> None:
    """Click until the drawer opens: while a filter draws a figure again, marks still move."""
    page = opened.page
    for _ in range(10):
        is_point = "point" in selector
        x, y = _middle(opened, f"{selector} >> nth=-1") if is_point else _on_line(opened, selector)
        page.mouse.move(0, 0)
        page.mouse.move(x, y)
        page.wait_for_timeout(100)  # plotly looks for what is under the mouse now and then
        page.mouse.click(x, y)
        page.wait_for_timeout(100)
        if page.locator("#drawer[open]").count():
            return
    pytest.fail(f"no click on {selector} opened the drawer")


@pytest.mark.parametrize("selector", ["#plot-cost .point", "#parallel-0 .line.best"])
def test_a_point_and_a_line_open_their_trial_by_mouse(opened: Opened, selector: str) -> None:
    page = opened.page
    page.fill("#words", "family=cnn width>=50 status=completed")
    page.locator(selector).last.scroll_into_view_if_needed()
    page.locator(f".card:has({selector})").last.evaluate(CENTRED)
    _open_by_mouse(opened, selector)
    assert str(page.locator("#drawer-title").text_content()).startswith("CNN, trial ")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.type") == "range"


@pytest.mark.parametrize("plot", ["plot-cost", "parallel-1"])
def test_a_figure_is_gone_through_and_opened_by_keyboard(opened: Opened, plot: str) -> None:
    page = opened.page
    steps = page.locator(f"#{plot}-steps input")
    steps.focus()
    first = steps.get_attribute("aria-valuetext")
    page.keyboard.press("ArrowRight")
    second = str(steps.get_attribute("aria-valuetext"))
    assert second != first
    assert page.locator(f"#{plot}-steps button").text_content() == second
    if plot == "parallel-1":
        assert page.locator("#parallel-1 .hot").get_attribute("d")
    else:
        page.wait_for_selector("#plot-cost .hoverlayer .hovertext")
    page.keyboard.press("Enter")
    title = str(page.locator("#drawer-title").text_content())
    assert second.startswith(f"{title}: ")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.type") == "range"


def test_names_of_axes_neither_overlap_nor_leave_the_figure(pages: Pages) -> None:
    overlaps = """() => [...document.querySelectorAll("svg.parallel")].flatMap((svg) => {
        const box = svg.getBoundingClientRect();
        const names = [...svg.querySelectorAll(".name")].map((n) => n.getBoundingClientRect());
        const outside = names.filter((n) => n.left < box.left - 1 || n.right > box.right + 1);
        const both = names.filter((a, i) => names.some((b, j) => i < j && a.left < b.right
            && b.left < a.right && a.top < b.bottom && b.top < a.bottom));
        return [...outside, ...both].map(() => svg.parentElement.id);
    })"""
    for width in (390, 1400, 2560):
        opened = pages(width)
        assert opened.page.locator("svg.parallel .name").count() == 6 + 5 + 4
        assert opened.page.evaluate(overlaps) == [], width


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (1400, "dark"), (390, "light")])
def test_axe_finds_nothing_with_the_drawer_closed_or_open(
    pages: Pages, width: int, scheme: str
) -> None:
    opened = pages(width, scheme)
    assert opened.ailments() == []
    opened.page.locator("#trial-table tbody button").nth(1).click()
    opened.page.wait_for_selector("#drawer .js-line", state="attached")
    assert opened.ailments() == []
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert opened.page.evaluate(wide) == 0
    assert opened.page.evaluate("(d => d.scrollWidth - d.clientWidth)(drawer)") == 0


def test_paper_has_the_lines_and_neither_slider_nor_drawer(opened: Opened) -> None:
    page = opened.page
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.locator("#parallel-0 svg").get_attribute("width") == "680"
    assert [opened.lines(place) for place in range(3)] == [20, 20, 20]
    assert page.locator(".steps").first.is_hidden()
    assert page.locator("#drawer").is_hidden()
    page.emulate_media(media="screen")
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.locator("#parallel-0 svg").get_attribute("width") != "680"


def test_of_many_trials_two_hundred_are_drawn_and_that_is_said(
    browser: Any, tmp_path: Path
) -> None:
    made = Made(families=("CNN",), trials=230, epochs=9, confirm=False)
    with Opened(browser, write_report(write_study(tmp_path, made))) as opened:
        assert opened.lines(0) == 200
        said = str(opened.page.locator("#parallel-0-lines").text_content())
        assert said.startswith("200 of 230 trials: the best 100, and an even sample of the others.")
        opened.page.fill("#words", "epochs>3")
        assert 0 < opened.lines(0) < 200


@pytest.mark.parametrize("width", [1400, 390])
def test_a_short_training_has_whole_epochs_on_every_axis(
    browser: Any, tmp_path: Path, width: int
) -> None:
    folder = write_study(tmp_path, Made(families=("CNN",), trials=4, epochs=2))
    with Opened(browser, write_report(folder), width=width) as opened:
        page = opened.page
        page.locator("#trial-table tbody button").first.click()
        page.wait_for_selector("#drawer-curve .xtick", state="attached")
        for figure in ("#plot-curves", "#drawer-curve"):
            ticks = page.locator(f"{figure} .xtick").all_text_contents()
            assert ticks == ["0", "1", "2"], figure


@pytest.fixture(scope="module")
def pictured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_study(tmp_path_factory.mktemp("pictured"), Made(families=("CNN",), trials=6))
    write_records(folder, captions=("reconstruction",))
    return write_report(folder)


def test_the_drawer_shows_what_a_trial_answers_in_words_and_pictures(
    browser: Any, pictured: Path
) -> None:
    found = read_examples(pictured.parent)
    assert found
    with Opened(browser, pictured) as opened:
        page = opened.page
        page.fill("#words", "trial=2")
        page.locator("#trial-table tbody button").first.click()
        page.wait_for_selector("#drawer-answers li")
        own = found.table[found.table["trial"] == 2]
        expected = [
            f"{row['target']}, answered {row['predicted']}, {round(100 * row['confidence'])}%"
            for row in own.to_dict("records")
        ]
        pictures = page.locator("#drawer-answers img")
        assert [each.get_attribute("alt") for each in pictures.all()] == expected
        assert page.evaluate("[...document.querySelectorAll('#drawer img')].map(i => i.decode())")
        signs = [
            str(each.text_content())[0] for each in page.locator("#drawer-answers strong").all()
        ]
        assert signs == ["✓" if right else "✗" for right in own["is_correct"]]
        assert page.locator("#drawer-answers .wrong").count() == int((~own["is_correct"]).sum())
        said = str(page.locator("#drawer-examples-about").text_content())
        results = read_results(pictured.parent)
        seed = results.trials.set_index("trial").loc[2, "seed"]
        first = results.epochs[(results.epochs["seed"] == seed) & (results.epochs["epoch"] == 1)]
        assert said.endswith(
            f"here after epoch 1: {int(own['is_correct'].sum())} of the 8 shown right; "
            f"{100 * first['valid_accuracy'].item():.1f}% of all 270 validation images."
        )
        strip = page.locator("#drawer-strips img")
        assert strip.get_attribute("alt") == "8 pictures: reconstruction"
        assert strip.evaluate("(i) => i.decode().then(() => i.naturalWidth)") == 8 * 13 - 1
        page.keyboard.press("Escape")
        assert opened.messages == []


@pytest.mark.parametrize(("width", "scheme"), [(1400, "dark"), (390, "light")])
def test_axe_finds_nothing_about_the_pictures(
    browser: Any, pictured: Path, width: int, scheme: str
) -> None:
    with Opened(browser, pictured, width=width, scheme=scheme) as opened:
        opened.page.locator("#trial-table tbody button").first.click()
        opened.page.wait_for_selector("#drawer-strips img")
        assert opened.ailments() == []
        assert opened.page.evaluate("(d => d.scrollWidth - d.clientWidth)(drawer)") == 0


def test_hostile_class_names_are_words_in_the_drawer(browser: Any, tmp_path: Path) -> None:
    folder = write_study(tmp_path, Made(families=("CNN",), trials=3))
    write_records(folder)
    summary = json.loads((folder / "study.json").read_text())
    names = [f"{HOSTILE}{digit}" for digit in range(10)]
    summary["data"]["classes"] = names
    (folder / "study.json").write_text(json.dumps(summary))
    write_examples(folder, read_results(folder).trials, names)
    with Opened(browser, write_report(folder)) as opened:
        opened.page.locator("#trial-table tbody button").first.click()
        opened.page.wait_for_selector("#drawer-answers li")
        assert "<img src=x" in str(
            opened.page.locator("#drawer-answers strong").first.text_content()
        )
        assert opened.page.title() != "owned"
        assert opened.messages == []


def test_without_examples_the_drawer_says_nothing_of_them(opened: Opened) -> None:
    opened.page.locator("#trial-table tbody button").first.click()
    opened.page.wait_for_selector("#drawer .js-line", state="attached")
    assert opened.page.locator("#drawer-examples").is_hidden()


def test_examples_that_are_left_out_are_said_to_be(
    browser: Any, pictured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examples, "MOST_CHARACTERS", 1)
    report = write_report(pictured.parent, pictured.with_name("short.html"))
    with Opened(browser, report) as opened:
        opened.page.locator("#trial-table tbody button").nth(3).click()
        opened.page.wait_for_selector("#drawer-examples:not([hidden])")
        said = str(opened.page.locator("#drawer-examples-about").text_content())
        assert said.startswith("Left out here to keep the page small")
        assert opened.page.locator("#drawer-answers").is_hidden()
        assert opened.page.locator("#drawer-strips").is_hidden()
