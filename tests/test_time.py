"""The section on time says where it went, what would save some, and whether workers waited."""

import itertools
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from tests.report_data import Made, write_study

from torchstudy.analysis.profile import TIMES, time_shares
from torchstudy.analysis.tables import Results, read_results
from torchstudy.report import page, time
from torchstudy.report.figures import drawable
from torchstudy.report.formats import ABSENT, duration, percent
from torchstudy.report.page import render
from torchstudy.report.sections import Content
from torchstudy.report.story import Story

# What colour-blind eyes see of linear RGB: Machado, Oliveira and Fernandes 2009, severity 1.
SEEN = {
    "all colours": np.eye(3),
    "no red": np.array(
        [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    ),
    "no green": np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]),
    "no blue": np.array([[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]]),
}
TO_XYZ = np.array(  # over the white of D65
    [[0.4339, 0.3762, 0.1899], [0.2126, 0.7152, 0.0722], [0.0177, 0.1095, 0.8727]]
)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return read_results(write_study(tmp_path_factory.mktemp("digits"), Made(trials=6)))


@pytest.fixture(scope="module")
def content(results: Results) -> Content:
    return time.times(Story(results))


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page has this section alone: the others take seconds."""
    own = tuple(section for section in page.SECTIONS if section.anchor == "time")
    monkeypatch.setattr(page, "SECTIONS", own)


def _section(results: Results) -> str:
    found = re.search(r'<section id="time".*?</section>', render(results), re.DOTALL)
    assert found
    assert "could not be drawn" not in found[0]
    return found[0]


def _shifted(results: Results, part: str, seconds: float) -> list[str]:
    """What is said where a part took this much longer in the first epoch of every training."""
    first = results.epochs["epoch"] == 1
    column = results.epochs[f"seconds_{part}"] + first * seconds
    epochs = results.epochs.assign(**{f"seconds_{part}": column})
    said: list[str] = time.times(Story(replace(results, epochs=epochs))).context["said"]
    return said


def _cloned(results: Results, number: int) -> Results:
    """The same study with the first family's trainings under many names."""
    names = [f"Family{index}" for index in range(number)]

    def repeated(table: pd.DataFrame) -> pd.DataFrame:
        own = table[table["family"] == results.families[0]]
        each = [own.assign(family=pd.array([name] * len(own), dtype="string")) for name in names]
        return pd.concat(each, ignore_index=True)

    return replace(
        results,
        trials=repeated(results.trials),
        epochs=repeated(results.epochs),
        confirmation=repeated(results.confirmation),
        summary=results.summary | {"families": {name: {} for name in names}},
    )


def test_the_section_stands_between_trouble_and_the_search() -> None:
    anchors = [section.anchor for section in page.SECTIONS]
    assert anchors[anchors.index("time") - 1 :][:3] == ["failures", "time", "search"]


def test_every_bar_shows_the_share_of_its_part(results: Results, content: Content) -> None:
    table = time_shares(results)
    drawn = drawable(content.figures["shares"])["data"]
    assert [trace["name"] for trace in drawn] == [time.WORDS[part] for part in TIMES]
    for trace, part in zip(drawn, TIMES, strict=True):
        assert list(trace["x"]) == list(table.loc[table["part"] == part, "share"])
        assert list(trace["y"]) == [0, -1, -2]
    first = sum(trace["x"][0] for trace in drawn)
    assert first == pytest.approx(1, abs=1e-12)


def test_a_number_is_written_only_into_a_bar_that_has_room(content: Content) -> None:
    for trace in content.figures["shares"].data:
        for share, text in zip(trace.x, trace.text, strict=True):
            assert text == (percent(share) if share >= 0.08 else "")


def test_a_part_that_took_no_time_has_no_bar_column_or_explanation(results: Results) -> None:
    epochs = results.epochs.assign(seconds_augment=0.0)
    found = time.times(Story(replace(results, epochs=epochs)))
    assert "augmentation" not in [trace.name for trace in found.figures["shares"].data]
    assert "augment" not in [part["key"] for part in found.context["parts"]]
    assert "Augmentation" not in found.context["table"].head


def test_the_largest_part_of_every_family_is_named(results: Results, content: Content) -> None:
    table = time_shares(results)
    totals = table.groupby("family")["seconds"].sum()
    counts = table.groupby("family")["trainings"].first()
    expected = {
        "CNN": "61% of {} in forward and backward passes",
        "Transfer": "37% of {} in forward and backward passes",
        "AutoencoderProbe": "37% of {} in scoring the validation split",
    }
    assert content.context["families"] == [
        f"{family}: {text.format(duration(totals[family]))} ({counts[family]} trainings)"
        for family, text in expected.items()
    ]


def test_the_table_holds_seconds_and_shares(content: Content) -> None:
    table = content.context["table"]
    assert table.head[:4] == ("Family", "Trainings", "In all", "Start and end")
    own = dict(zip(table.head, table.rows[2], strict=True))
    assert re.fullmatch(r"[\d.]+ (s|min) \(37%\)", own["Scoring"])
    assert own["Augmentation"] == ABSENT


def test_advice_is_given_above_its_thresholds_alone(content: Content) -> None:
    assert content.context["said"][1:] == [
        "Loading and augmenting batches took 26% in Transfer: larger batches and fewer kinds of "
        "augmentation leave more time for learning.",
        "Scoring the validation split took 37% in AutoencoderProbe: a smaller validation split "
        "leaves more time for learning.",
        "Starting and ending trainings took 25% in AutoencoderProbe and 17% in Transfer: they are "
        "short; fewer and longer ones, or fewer workers, waste less.",
    ]


def test_no_advice_where_learning_takes_the_time(results: Results) -> None:
    said = _shifted(results, "backward", 1000.0)
    assert len(said) == 1
    assert re.fullmatch(r"\d+ trainings of the search and of confirmation took .*", said[0])
    assert said[0].endswith("in all, 100% of it in forward and backward passes.")


@pytest.mark.usefixtures("alone")
def test_thirty_families_are_all_drawn_and_few_are_named(results: Results) -> None:
    many = _cloned(results, 30)
    found = time.times(Story(many))
    assert len(found.context["families"]) == len(found.context["table"].rows) == 30
    assert {len(trace.x) for trace in found.figures["shares"].data} == {30}
    said = _shifted(many, "load", 1000.0)[1]
    assert re.match(
        r"Loading and augmenting batches took 100% in Family0, .* and 26 more fam", said
    )
    assert _section(many).count("Family29") == 2


def test_one_family_with_one_training_is_a_section(results: Results) -> None:
    one = _cloned(results, 1)
    trials = one.trials.iloc[:1]
    single = replace(one, trials=trials, confirmation=one.confirmation.iloc[:0])
    context = time.times(Story(single)).context
    assert context["said"][0].startswith("1 training of the search and of confirmation took")
    assert context["around"][1] == "The only trial multiplied matrices in float32."


def test_waiting_and_precision_are_said(results: Results, content: Content) -> None:
    assert content.context["around"] == [
        "In the search, workers waited 1.2 s of 5.7 min (0.4%) for proposals: 0.9 s while one was "
        "computed, 0.3 s for results that the next one builds on.",
        "Multiplied in bfloat16: 6 of 18 trials, those with networks large enough to gain from it; "
        "the others in float32.",
    ]
    idle = {"busy": 10.0, "computing": 0.0, "results": 0.0}
    quick = replace(
        results,
        summary=results.summary | {"idle": idle},
        trials=results.trials.assign(precision="bf16"),
    )
    assert time.times(Story(quick)).context["around"] == [
        "In the search, no worker waited for a proposal in 10 s of work.",
        "All 18 trials multiplied matrices in bfloat16.",
    ]


@pytest.mark.usefixtures("alone")
def test_results_of_an_older_version_say_that_nothing_was_measured(tmp_path: Path) -> None:
    old = read_results(write_study(tmp_path, Made(timed=False, trials=3)))
    section = _section(old)
    assert "Times were not measured" in section
    assert "data-figure" not in section
    assert "Waiting and precision" not in section


@pytest.mark.usefixtures("alone")
def test_hostile_names_stay_text_in_the_section(tmp_path: Path) -> None:
    hostile = read_results(write_study(tmp_path, Made(hostile=True, trials=3)))
    section = _section(hostile)
    assert "<img" not in section
    assert "<script" not in section
    assert "&lt;img src=x" in section
    for trace in time.times(Story(hostile)).figures["shares"].data:
        assert not any("<" in text.replace("<br>", "") for text in trace.hovertext)


@pytest.mark.usefixtures("alone")
def test_same_tables_give_the_same_bytes(results: Results) -> None:
    assert _section(results) == _section(read_results(results.folder))


def test_short_times_and_small_shares_are_written_for_people() -> None:
    assert [duration(s) for s in (0.0001, 0.012, 0.0499, 0.05)] == [
        "1 ms",
        "12 ms",
        "50 ms",
        "0.1 s",
    ]
    shares = (0.0, 0.004, 0.01, 0.344, 1.0, float("nan"))
    assert [percent(share) for share in shares] == [ABSENT, "<1%", "1%", "34%", "100%", ABSENT]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_neighbouring_parts_differ_for_all_eyes_and_numbers_can_be_read(theme: int) -> None:
    css = (Path(page.__file__).parent / "assets" / "style.css").read_text()
    found = re.findall(r"--(on-part|part-\w+): light-dark\((#\w{6}), (#\w{6})\)", css)
    colors = {name: _linear(pair[theme]) for name, *pair in found}
    own = [colors[f"part-{part}"] for part in TIMES]
    for color in own:
        light, dark = sorted((_luminance(color), _luminance(colors["on-part"])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5
    for matrix in SEEN.values():
        labs = [_lab(np.clip(matrix @ color, 0, 1)) for color in own]
        for one, next_one in itertools.pairwise(labs):
            assert np.linalg.norm(one - next_one) > 15


def _linear(color: str) -> npt.NDArray[np.float64]:
    values = np.array([int(color[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _luminance(linear: npt.NDArray[np.float64]) -> float:
    return float(TO_XYZ[1] @ linear)


def _lab(linear: npt.NDArray[np.float64]) -> Any:
    xyz = TO_XYZ @ linear
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])
