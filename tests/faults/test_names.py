"""Hostile names and texts, through a whole study: kept as they are, and obeyed by nothing."""

import csv
import io
import os
import sqlite3
import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console
from tests.browser import needs_chromium
from tests.test_page import Reader
from tests.test_watching import a_plan, a_subject
from torch import nn

from torchstudy.analysis.tables import Results
from torchstudy.data.images import Images
from torchstudy.data.spec import DataSpec
from torchstudy.display import LiveDisplay
from torchstudy.domains import Choice
from torchstudy.execution.runner import run
from torchstudy.execution.watching import PlainLines, ended_text
from torchstudy.families.base import Family, family
from torchstudy.printing import print_table, print_text, print_wrapped, write_out
from torchstudy.quiet import quiet_ax
from torchstudy.records import Objective, Outcome, Status
from torchstudy.spreadsheets import guarded
from torchstudy.study import Study
from torchstudy.visible import visible

SCRIPT = (
    "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
)
CODES = "\x1b[2J\x1b]8;;http://evil.example\x07\x9b31m\u202e[bold]"
FORMULA = "=cmd|' /C calc'!A0"
TEXT = f"{FORMULA}\x00{SCRIPT}{CODES}\ud800\r=1+1\r\n  [red]{SCRIPT}{CODES}\u2028"
CLASSES = [
    "<img src=x onerror=document.title='owned'>",
    FORMULA.replace("/", ""),
    "@SUM(A1)",
    "+1",
    CODES.replace("/", ""),
    "a\nb",
    "  ",
    "[bold]",
    "e\u0301\u200b",
    "😀" * 60,
    "\udcff",
    "x\\..\\..\\y",
    "%{x}<b>$x^2$",
]


@family
class Flavoured(Family):
    """</script><script>document.title='owned'</script>\x1b[2J[bold]{{ 7 * 7 }}"""

    flavour: str = Choice(FORMULA, SCRIPT + CODES, default=FORMULA)

    def build(self, data: DataSpec) -> nn.Module:
        pixels = data.channels * data.height * data.width
        return nn.Sequential(nn.Flatten(), nn.Linear(pixels, data.num_outputs))


@family
class Raising(Family):
    """Raises a hostile text."""

    text: str = Choice(TEXT, default=TEXT)

    def build(self, data: DataSpec) -> nn.Module:
        raise RuntimeError(TEXT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a study with hostile names left and said."""

    results: Results
    said: str
    files_before: set[bytes]
    root: Path


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    root = tmp_path_factory.mktemp("hostile")
    generator = np.random.default_rng(0)
    for name in CLASSES:
        (root / "pets" / name).mkdir(parents=True)
        for number in range(5):
            pixels = generator.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "pets" / name / f"=\x1b{number}<b>.png")
    study = Study(
        name="odd",
        data=Images(root / "pets", size=8),
        families=[Flavoured, Raising],
        maximize="accuracy",
        space={"batch_size": 32},
        trials=2,
        epochs=1,
        confirm=(1, 1),
    )
    before = {os.fsencode(path) for path in root.rglob("*")}
    out = io.StringIO()
    with quiet_ax():
        results = run(study, reports=root / "reports", executor="inline", watcher=PlainLines(out))
    return Ran(results=results, said=out.getvalue(), files_before=before, root=root)


def is_harmless(text: str) -> bool:
    """Whether a terminal would obey nothing in it."""
    hidden = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    return all(letter == "\n" or unicodedata.category(letter) not in hidden for letter in text)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_study_ends_well_and_every_name_is_exact(ran: Ran) -> None:
    exact = [*CLASSES[:10], "\\xff", *CLASSES[11:]]
    assert ran.results.summary["data"]["classes"] == sorted(exact, key=_as_on_disk)
    trials = ran.results.trials.set_index("family")
    assert set(trials.loc["Flavoured", "status"]) == {"completed"}
    assert set(trials.loc["Flavoured", "config.flavour"]) <= {FORMULA, SCRIPT + CODES}
    raised = trials.loc["Raising"]
    assert set(raised["status"]) == {"crashed"}
    kept = TEXT.replace("\x00", "\\x00").replace("\ud800", "\\ud800")
    assert set(raised["config.text"]) == {kept}
    named = set(ran.results.predictions["Flavoured"]["target"].dropna())
    assert named <= set(exact)
    assert len(named) > 8


def test_the_ledger_holds_the_text_of_the_exception(ran: Ran) -> None:
    connection = sqlite3.connect(ran.root / "reports" / "studies.sqlite")
    reasons = [row[0] for row in connection.execute("select reason from trainings")]
    connection.close()
    raised = next(reason for reason in reasons if reason)
    assert f"{SCRIPT}{CODES}" in raised
    assert "\x00" not in raised  # PostgreSQL takes none


def test_nothing_is_written_outside_of_the_reports(ran: Ran) -> None:
    after = {os.fsencode(path) for path in ran.root.rglob("*")}
    new = {path for path in after - ran.files_before}
    assert new
    assert all(path.startswith(os.fsencode(ran.root / "reports")) for path in new)
    assert not list(ran.root.parent.glob("x*"))


def test_the_log_of_a_run_is_harmless(ran: Ran) -> None:
    assert "Raising #0" in ran.said
    assert is_harmless(ran.said)


def test_csv_files_hold_no_formula(ran: Ran) -> None:
    tables = sorted(ran.results.folder.rglob("*.csv"))
    assert {path.stem for path in tables} >= {"trials", "epochs", "confirmation", "predictions"}
    for path in tables:
        exact = pd.read_parquet(path.with_suffix(".parquet"))
        rows = rows_of(path)
        assert len(rows) == len(exact), path
        for name in exact.select_dtypes("string"):
            expected = [guarded(text) if isinstance(text, str) else "" for text in exact[name]]
            assert [row[guarded(name)] for row in rows] == expected, (path, name)
    flavours = {row["config.flavour"] for row in rows_of(ran.results.folder / "trials.csv")}
    assert f"'{FORMULA}" in flavours


def test_the_page_holds_no_tag_and_no_hidden_character_of_theirs(ran: Ran) -> None:
    page = (ran.results.folder / "report.html").read_text(encoding="utf-8")
    assert page.count("<script") == 5  # its own, and four packs of data
    elements = [attrs for _, attrs in Reader(page).tags]
    assert not [attrs for attrs in elements if attrs.get("src") == "x"]
    assert not [name for attrs in elements for name in attrs if name.startswith("on")]
    assert "\\x1b[2J" in page
    assert "{{ 7 * 7 }}" in page
    lines = page.splitlines()
    assert all(is_harmless(line) for line in lines)


def test_an_outcome_is_one_line_of_the_log_whatever_its_reason() -> None:
    outcome = Outcome(status=Status.CRASHED, reason=f"Traceback\n{CODES}\rCNN #9 completed")
    out = io.StringIO()
    accuracy = Objective(metric="accuracy", direction="maximize")
    lines = PlainLines(out)
    lines.ended(a_subject(), outcome, 1.0)
    lines.note(TEXT)
    assert is_harmless(out.getvalue())
    assert out.getvalue().startswith(visible(ended_text(a_subject(), outcome, 1.0, accuracy)))


def test_the_live_display_obeys_no_markup_and_no_code() -> None:
    file = io.StringIO()
    console = Console(file=file, width=150, height=40, force_terminal=True, color_system=None)
    display = LiveDisplay(console)
    odd = f"[bold]{CODES}\n[/nonsense]"
    display.preparing(odd, 1, 2)
    display.begun(replace(a_plan(), families=(odd,), done={odd: 0}, left={odd: 4}))
    subject = a_subject()
    display.started(replace(subject, trial=replace(subject.trial, family=odd)))
    display.note(odd)
    outcome = Outcome(status=Status.CRASHED, reason=odd)
    display.ended(replace(subject, trial=replace(subject.trial, family=odd)), outcome, 1.0)
    display.close()
    written = file.getvalue()
    assert "[bold]\\x1b[2J\\x1b]8;;http://evil.example\\x07" in written
    assert "\x1b[2J" not in written
    assert "\x1b]8" not in written
    assert not set(written) & {"\x07", "\x9b", "\u202e"}


def test_printed_tables_and_lines_are_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(f"t{CODES}", [f"[red]{CODES}", "b"], [[TEXT, SCRIPT], ["", "  "]])
    table = capsys.readouterr().out
    assert is_harmless(table)
    assert "[red]\\x1b[2J" in table  # no markup was obeyed: in the header, in a cell
    assert f"[red]{SCRIPT}\\x1b[2J" in table
    assert table.count("\n") == 5  # title, header, rule, and a line for each row
    print_wrapped(f"{TEXT} {TEXT}")
    print_text(TEXT)
    said = capsys.readouterr().out
    assert is_harmless(said)
    assert said.count("\\x1b[2J") >= 4


def test_a_table_for_programs_is_exact_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    write_out("a,\x1b[2J\n")
    assert capsys.readouterr().out == "a,\x1b[2J\n"


@pytest.mark.browser
@needs_chromium
def test_in_a_browser_nothing_of_theirs_runs_and_nothing_is_asked_for(
    browser: Any, ran: Ran
) -> None:
    context = browser.new_context(offline=True, accept_downloads=True)
    page = context.new_page()
    heard: list[str] = []
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("dialog", lambda dialog: heard.append(dialog.message))
    page.on("request", lambda request: heard.append(request.url))
    path = ran.results.folder / "report.html"
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-drawn]", state="attached", timeout=30_000)
    for plot in page.locator(".plot").all():  # hover texts are drawn when they are asked for
        plot.hover()
    assert heard == [path.as_uri()]
    assert page.title() == "odd: study report"
    assert page.locator("main img[src=x], main script, main a[href^=http]").count() == 0
    shown = page.locator("#trial-table tbody").text_content()
    assert "\\x1b[2J" in shown
    assert is_harmless(shown)
    with page.expect_download() as waiting:
        page.click("#csv")
    rows = rows_of(Path(waiting.value.path()))
    exact = pd.read_parquet(ran.results.folder / "trials.parquet")
    shortened = {guarded(reason)[:300] for reason in exact["reason"]}  # the page cuts long cells
    assert {row["reason"][:300] for row in rows} == shortened
    flavours = set(exact["config.flavour"].dropna())
    assert {row["config.flavour"] for row in rows} - {""} == set(map(guarded, flavours))
    context.close()


def _as_on_disk(name: str) -> str:
    return "\udcff" if name == "\\xff" else name
