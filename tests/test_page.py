"""The page says what the tables say, is the same for the same input, and lets nothing through."""

import base64
import functools
import gzip
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from plotly.offline import get_plotlyjs_version
from tests.pages import drawn
from tests.report_data import HOSTILE, Made, write_study
from tests.report_kinds import write_kind

from torchstudy.analysis.tables import Results, read_results
from torchstudy.report import page, sentences
from torchstudy.report.caveats import headline
from torchstudy.report.packing import json_object, json_text, packed, plotly_script
from torchstudy.report.page import render, write_report
from torchstudy.report.story import Story

LIMIT = 2_500_000  # bytes for 60 trials
Kinds = Callable[[str], tuple[Results, str]]


class Reader(HTMLParser):
    """Collects a page's text per element id, and every element and script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return read_results(write_study(tmp_path_factory.mktemp("digits")))


@pytest.fixture(scope="module")
def html(results: Results) -> str:
    return render(results)


@pytest.fixture(scope="module")
def losses(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return _read(tmp_path_factory.mktemp("losses"), Made(metric="loss"))


@pytest.fixture(scope="module")
def loss_text(losses: Results) -> str:
    return Reader(render(losses)).text


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Kinds:
    """A study of some kind, and the text of its page; each is made once."""

    @functools.cache
    def made(kind: str) -> tuple[Results, str]:
        results = read_results(write_kind(tmp_path_factory.mktemp(kind), kind))
        return results, Reader(render(results)).text

    return made


def _read(tmp_path: Path, made: Made) -> Results:
    return read_results(write_study(tmp_path, made))


def _headline(results: Results) -> str:
    return headline(Story(results)).title


def _said(results: Results) -> str:
    return " ".join(headline(Story(results)).sentences)


def _packed(text: str, name: str) -> str:
    found = re.search(rf'id="{name}">([^<]*)<', text)
    assert found
    return gzip.decompress(base64.b64decode(found[1])).decode()


def test_same_results_give_the_same_bytes(results: Results, html: str) -> None:
    again = render(read_results(results.folder))
    assert again == html


def test_what_a_network_may_cost_is_among_the_methods(results: Results, html: str) -> None:
    limited = replace(results, summary={**results.summary, "limits": {"latency_p50": 5.0}})
    assert "median latency of at most 5 ms" in drawn(limited, "method")
    assert "of at most" not in html


def test_the_page_is_small_enough(html: str) -> None:
    assert len(html.encode()) < LIMIT


def test_the_report_is_written_beside_the_tables_or_where_asked(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "digits", Made(families=("CNN",), trials=3))
    assert write_report(folder) == folder / "report.html"
    out = write_report(folder, tmp_path / "elsewhere" / "r.html")
    assert out.read_bytes() == (folder / "report.html").read_bytes()


def test_every_section_is_there_and_in_the_navigation(html: str) -> None:
    reader = Reader(html)
    links = [attrs["href"] for tag, attrs in reader.tags if tag == "a"]
    ids = [attrs.get("id") for tag, attrs in reader.tags if tag == "section"]
    anchors = [section.anchor for section in page.SECTIONS]
    anchors.remove("tradeoffs")  # of several objectives
    assert ids == anchors
    assert {f"#{anchor}" for anchor in ids} <= set(links)
    assert "could not be drawn" not in reader.text


def test_ids_are_unique_and_labels_point_to_them(html: str) -> None:
    tags = Reader(html).tags
    ids = [attrs["id"] for _, attrs in tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for _, attrs in tags:
        for target in (attrs.get("aria-labelledby") or "").split():
            assert target in ids


def test_every_plot_is_a_named_group(html: str) -> None:
    plots = [attrs for _, attrs in Reader(html).tags if attrs.get("class") == "plot"]
    assert len(plots) == 19
    assert all(plot["role"] == "group" and plot["aria-labelledby"] for plot in plots)


def test_the_policy_allows_exactly_the_two_scripts(html: str) -> None:
    reader = Reader(html)
    policy = next(a["content"] for t, a in reader.tags if t == "meta" and "http-equiv" in a)
    assert policy
    inline = reader.scripts[-1]
    for source in (inline, plotly_script()):
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert policy.count("sha256-") == 2
    assert policy.startswith("default-src 'none';")
    assert "unsafe-eval" not in policy
    assert "http" not in policy
    assert "connect-src" not in policy
    assert 'id="live"' not in html


def test_only_the_page_of_a_running_study_may_ask_its_own_server(tmp_path: Path) -> None:
    made = Made(trials=4, epochs=4, confirm=False, state="running")
    reader = Reader(drawn(_read(tmp_path, made), "verdict", "trials"))
    policy = next(a["content"] for t, a in reader.tags if t == "meta" and "http-equiv" in a)
    assert policy
    assert "connect-src 'self';" in policy
    digest = base64.b64encode(hashlib.sha256(reader.scripts[-1].encode()).digest()).decode()
    assert f"'sha256-{digest}'" in policy
    assert policy.count("sha256-") == 2
    assert "reload to see more" in reader.text


def test_the_packed_script_is_the_bundle_with_its_licence(html: str) -> None:
    script = _packed(html, "packed-plotly")
    assert script == plotly_script()
    assert "Licensed under the MIT license" in script[:300]


def test_the_bundle_is_of_the_version_that_is_installed() -> None:
    wanted = f"plotly.js (cartesian - minified) v{get_plotlyjs_version()}"
    assert wanted in plotly_script()[:100], "packing.py says how it is made"


def test_the_page_names_no_other_address(html: str) -> None:
    for _, attrs in Reader(html).tags:
        for name in ("src", "href", "action", "data", "srcset"):
            assert (attrs.get(name) or "#").startswith(("#", "data:,", "data:image/png;base64,"))


def test_the_packed_table_holds_every_trial(results: Results, html: str) -> None:
    table = json.loads(_packed(html, "packed-data"))["trials"]
    assert len(table["rows"]) == len(results.trials)
    keys = [column["key"] for column in table["columns"]]
    values = [row[keys.index("value")] for row in table["rows"]]
    assert values == [None if v != v else v for v in results.values]


def test_packed_data_cannot_hold_nan_or_a_tag() -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        json_text({"a": float("nan")})
    text = json_text({"b": "</script>", "a": 1})
    assert gzip.decompress(base64.b64decode(packed(text))).decode() == text
    assert text == '{"a":1,"b":"\\u003c/script>"}'


def test_an_object_of_written_values_is_written_as_a_whole() -> None:
    values = {"b<": [1, {"z": "<", "a": None}], "a": "é", '"': 2.5}
    assert json_object({name: json_text(value) for name, value in values.items()}) == json_text(
        values
    )
    assert json_object({}) == "{}"


def test_the_winner_is_named_with_its_lead(results: Results, html: str) -> None:
    assert _headline(results) == "CNN wins: 97.7% test accuracy"
    said = _said(results)
    assert "It beats Transfer by 1.85 points (95% interval" in said
    assert "3 fresh seeds of either family on the same 270 test images" in said
    assert "p is Holm-corrected for 3 comparisons." in said
    assert f'<h1 id="verdict-title">{_headline(results)}</h1>' in html


def test_other_data_make_other_sentences(tmp_path: Path, results: Results) -> None:
    close = _read(tmp_path, Made(gap=-0.016))
    assert _headline(close) == "Transfer and CNN are not separable"
    assert "noise alone could do that" in _said(close)
    assert "Clearly behind: AutoencoderProbe by" in _said(close)
    assert _said(close) != _said(results)


def test_without_predictions_the_sentence_says_what_is_left_out(results: Results) -> None:
    said = _said(replace(results, predictions={}))
    assert "the chance in the choice of the test images is left out" in said


def test_without_confirmation_the_number_is_called_optimistic(tmp_path: Path) -> None:
    results = _read(tmp_path, Made(confirm=False))
    assert _headline(results) == "CNN leads the search: 98.2% validation accuracy"
    said = _said(results)
    assert re.search(r"so it is optimistic, by chance alone up to about [12]\.\d+ points\.", said)
    assert sentences.UNSURE in _said(results)
    text = Reader(render(results)).text
    assert "best validation accuracy, not confirmed" in text
    assert "could not be drawn" not in text


def test_a_running_study_says_so(tmp_path: Path) -> None:
    text = Reader(drawn(_read(tmp_path, Made(confirm=False, state="running")), "verdict")).text
    assert "The study is still running: 54 of 60 planned trials ended so far" in text


def test_an_interrupted_study_says_how_to_go_on(tmp_path: Path) -> None:
    text = Reader(drawn(_read(tmp_path, Made(trials=4, state="interrupted")), "verdict")).text
    assert 'The study was interrupted: 12 of 12 planned trials ended. "optimize run digits"' in text


def test_when_everything_failed_the_headline_says_it(tmp_path: Path) -> None:
    results = _read(tmp_path, Made(fail_all=True, confirm=False))
    assert _headline(results) == "Every trial failed"
    text = Reader(render(results)).text
    assert "60 of 60 trials failed: 30 diverged and 30 crashed." in text
    assert "CNN, Transfer and AutoencoderProbe have no completed trial." in text
    assert "could not be drawn" not in text


def test_a_family_that_failed_is_named_beside_the_winner(results: Results) -> None:
    summary = results.summary | {"families": results.summary["families"] | {"GAN": {}}}
    said = _said(replace(results, summary=summary))
    assert "GAN has no score on test and has no part in the comparison." in said


def test_what_no_trial_keeps_within_is_the_headline(results: Results) -> None:
    bound = {"metric": "accuracy", "direction": "maximize", "value": 0.9999}
    bounded = replace(results, summary=results.summary | {"bounds": [bound]})
    assert _headline(bounded) == "No trial has a validation accuracy of at least 99.99%"
    assert _said(bounded).startswith("Leaving that aside: CNN ")
    low = replace(results, summary=results.summary | {"bounds": [bound | {"value": 0.5}]})
    assert _headline(low) == _headline(results)


def test_seeds_that_agree_give_no_interval(losses: Results) -> None:
    alike = replace(losses, confirmation=losses.confirmation.assign(test_loss=0.25))
    story = Story(alike)
    assert story.scores["low"].isna().all()
    assert story.scores["high"].isna().all()
    said = sentences.uncertainty(story.scores.iloc[0], story.metric, story.noun)
    assert said == "from 3 fresh seeds that agree, so no interval"
    assert Story(losses).scores["low"].notna().all()


def test_the_verdict_says_which_families_have_crashed_trials(results: Results) -> None:
    crashed = results.trials["status"].eq("crashed")
    counts = results.trials.loc[crashed, "family"].value_counts()
    assert len(counts)
    for family, count in counts.items():
        assert re.search(rf"\b{count} trials? of {family}\b.* crashed, which is no", _said(results))
    mended = results.trials.assign(status=results.trials["status"].mask(crashed, "diverged"))
    assert "crashed" not in _said(replace(results, trials=mended))


def test_one_family_is_compared_with_nothing(tmp_path: Path) -> None:
    results = _read(tmp_path, Made(families=("CNN",)))
    assert _headline(results).startswith("CNN: 97.7% test accuracy")
    assert "There is no other family to compare." in _said(results)
    assert "could not be drawn" not in Reader(render(results)).text


def test_one_trial_makes_a_page(tmp_path: Path) -> None:
    text = Reader(render(_read(tmp_path, Made(families=("CNN",), trials=1)))).text
    assert "The family's own recipe is the chosen configuration." in text
    assert "could not be drawn" not in text


def test_trial_0_is_only_the_recipe_where_its_origin_says_so(tmp_path: Path) -> None:
    results = _read(tmp_path, Made(families=("CNN",), trials=1))
    without = replace(results, trials=results.trials.assign(origin="sobol"))
    text = Reader(render(without)).text
    assert "There is nothing to compare it with: its recipe was left out." in text
    assert "CNN: its recipe was left out" in text
    assert "own recipe" not in text
    later = results.trials.assign(trial=7)
    chosen = results.confirmation.assign(trial=7)
    moved = replace(results, trials=later.astype({"trial": "Int64"}), confirmation=chosen)
    assert "CNN's own recipe is the best so far" in Reader(render(moved)).text


def test_an_empty_study_makes_a_page(tmp_path: Path) -> None:
    results = _read(tmp_path, Made(trials=0, confirm=False, state="running"))
    assert _headline(results) == "No trial has been recorded yet"
    text = Reader(render(results)).text
    assert "could not be drawn" not in text


def test_a_study_without_a_first_result_makes_a_page(tmp_path: Path) -> None:
    results = _read(tmp_path, Made(trials=2, confirm=False, fail_all=True))
    waiting = results.trials.assign(status="running", reason="")
    results = replace(results, trials=waiting)
    assert _headline(results) == "No result yet"
    assert "could not be drawn" not in Reader(render(results)).text


def test_a_loss_is_never_written_as_a_percentage(losses: Results, loss_text: str) -> None:
    assert re.fullmatch(r"CNN wins: test loss 0\.\d+", _headline(losses))
    assert "could not be drawn" not in loss_text
    assert "points" not in loss_text


def test_the_error_scale_is_explained_where_it_is_used(html: str, loss_text: str) -> None:
    assert "Equal distances are equal ratios of error." in Reader(html).text
    assert "Equal distances" not in loss_text


def test_cards_show_gain_and_changes_against_the_recipe(html: str) -> None:
    text = Reader(html).text
    assert "On validation 0.58 points better than its own recipe, which reached 97.6%." in text
    assert '<tr class="changed"><th scope="row">learning_rate</th>' in html
    assert "validation reconstruction error" in text


def test_failures_are_counted_and_placed(html: str) -> None:
    text = Reader(html).text
    assert "13 of 60 trials failed: 11 diverged and 2 crashed." in text
    way_on = 'Once the cause is mended, "optimize run digits --retry-crashed" trains what crashed'
    assert way_on in text
    assert "learning_rate is higher where this happened: median 0.06881 in 5 trials" in text


def test_where_nothing_crashed_nothing_is_to_be_trained_again(results: Results) -> None:
    status = results.trials["status"].replace("crashed", "diverged")
    sound = replace(results, trials=results.trials.assign(status=status))
    assert "--retry-crashed" not in render(sound)


def test_ailments_are_grouped_by_their_remedy(results: Results, html: str) -> None:
    text = Reader(html).text
    assert "11 of 96 trainings show signs of ill health." in text
    assert "Exploding : 11 trainings Try a smaller learning rate or gradient clipping." in text
    assert "AutoencoderProbe: 2 of 32 trainings (trials 1, 7)" in text
    recipe = results.trials.iloc[0]
    is_recipe = (results.epochs["trial"] == 0) & (results.epochs["seed"] == recipe["seed"])
    dead = results.epochs.assign(health_dead_share=is_recipe.map({True: 0.99, False: 0.1}))
    ill = Reader(drawn(replace(results, epochs=dead), "failures")).text
    assert "12 of 96 trainings show signs of ill health." in ill
    assert "Dead units : 1 training Try" in ill
    assert "CNN, trial 0: 99% of the units of a ReLU layer are 0" in ill


def test_a_healthy_study_is_said_to_be_healthy(results: Results) -> None:
    kept = results.trials["status"].isin(["completed", "stopped"])
    healthy = replace(results, trials=results.trials[kept].reset_index(drop=True))
    rows = healthy.epochs.merge(healthy.trials[["family", "trial", "seed"]])
    text = Reader(drawn(replace(healthy, epochs=rows), "failures")).text
    assert "No training shows signs of ill health." in text
    assert "signs of ill health. Each is judged" not in text


def test_diagnoses_are_a_column_of_the_table(results: Results, html: str) -> None:
    table = json.loads(_packed(html, "packed-data"))["trials"]
    place = [column["key"] for column in table["columns"]].index("diagnosis")
    said = [row[place] for row in table["rows"]]
    assert sum(one is not None for one in said) == int(results.trials["diagnosis"].notna().sum())
    assert any("try a smaller learning rate" in one for one in said if one)


def test_hyperparameters_that_are_fixed_are_told_once_under_method(tmp_path: Path) -> None:
    html = render(_read(tmp_path, Made(families=("CNN",), fixed=True, trials=6)))
    text = Reader(html).text
    assert "Fixed: patience 10, beta1 0.9, schedule one-cycle, crop 0." in text
    assert "; 4 fixed ones are under Method" in text
    assert '<th scope="row">patience</th>' not in html
    columns = json.loads(_packed(html, "packed-data"))["trials"]["columns"]
    keys = [column["key"] for column in columns]
    assert "config.learning_rate" in keys
    assert "config.patience" not in keys


def test_a_fixed_hyperparameter_that_left_the_recipe_is_shown(tmp_path: Path) -> None:
    results = _read(tmp_path, Made(families=("CNN",), fixed=True, trials=6))
    trials = results.trials.copy()
    trials.loc[2, "config.patience"] = 3
    html = render(replace(results, trials=trials))
    assert '<th scope="row">patience</th>' in html
    assert "Fixed: beta1 0.9, schedule one-cycle, crop 0." in Reader(html).text


@pytest.mark.parametrize(
    ("kind", "score"),
    [
        ("regression", r"wins: test R\u00b2 0\.\d{3}|are not separable"),
        ("denoise", r"test PSNR \d\d\.\d\d dB"),
        ("codes", r"test reconstruction error 0\.\d+"),
        ("gan", r"test generation distance \d*\.?\d+"),
    ],
)
def test_other_studies_never_speak_of_accuracy(kinds: Kinds, kind: str, score: str) -> None:
    results, text = kinds(kind)
    assert re.search(score, _headline(results))
    assert "could not be drawn" not in text
    assert "accuracy" not in text
    assert not re.search(r"\d points?\b", text)
    assert "Intervals are Student's t over the seeds" in text


def test_rows_of_a_table_are_no_images(kinds: Kinds) -> None:
    _, text = kinds("regression")
    assert "the chance in the choice of the test items is left out" in text
    assert "items per split train" in text
    assert "predicted number" in text
    assert "test image" not in text


def test_a_cost_as_objective_has_no_split(tmp_path: Path) -> None:
    results = _read(tmp_path, Made(metric="latency_p50"))
    assert re.fullmatch(r"CNN wins: median latency [\d.]+ ms", _headline(results))


def test_nothing_failed_is_said_kindly(results: Results) -> None:
    trials = results.trials[results.trials["status"].isin(["completed", "stopped"])]
    story = Story(replace(results, trials=trials.reset_index(drop=True)))
    assert sentences.failed(story) == "Nothing failed: all 47 trials ran without an error."


def test_a_failed_fresh_training_is_counted_and_left_out(results: Results) -> None:
    table = results.confirmation.copy()
    first = table.index[table["chosen"]][0]
    table.loc[first, "status"] = "diverged"
    broken = replace(results, confirmation=table)
    text = Reader(drawn(broken, "failures")).text
    assert "1 of 36 fresh trainings failed; the test scores are means over the others." in text
    assert "2 against 3 fresh seeds" in _said(broken)


def test_confirmation_is_described_before_and_without_it(results: Results) -> None:
    empty = results.confirmation.iloc[:0]
    story = Story(replace(results, confirmation=empty))
    planned = "planned: the best 3 of each family with 3 fresh seeds each"
    assert sentences.confirmation(story) == planned
    summary = results.summary | {"budget": {"confirm": None}}
    story = Story(replace(results, confirmation=empty, summary=summary))
    assert sentences.confirmation(story) == "none"


def test_provenance_is_complete(html: str) -> None:
    text = Reader(html).text
    for wanted in (
        "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef",
        "train 987, valid 270, select 270, test 270",
        "20 trials per family, up to 27 epochs",
        "36 fresh trainings of 12 configurations; the select split chooses one per family",
        "norm = batch",
        "1797 images, split by class.",
        "The recipe's learning rate was clipped into its narrowed range.",
    ):
        assert wanted in text


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    results = _read(tmp_path, Made(hostile=True))
    html = render(results)
    reader = Reader(html)
    assert not [tag for tag, _ in reader.tags if tag == "img"]
    assert not [attrs for _, attrs in reader.tags if any(name.startswith("on") for name in attrs)]
    assert len(reader.scripts) == 5  # figures, data, curves, plotly, the page's own
    assert "could not be drawn" not in reader.text
    assert " ".join(HOSTILE.split())[:40] in reader.text
    assert "<" not in _packed(html, "packed-data")


def test_numbers_that_are_not_finite_make_a_page(results: Results) -> None:
    trials = results.trials.assign(valid_accuracy=float("inf"))
    trials.loc[3:, "best_valid_accuracy"] = float("inf")
    epochs = results.epochs.assign(valid_accuracy=float("-inf"))
    text = Reader(render(replace(results, trials=trials, epochs=epochs))).text
    assert "could not be drawn" not in text
    assert "On validation it cannot be compared with its own recipe: one has no value." in text


def test_values_without_a_completed_trial_are_no_winner(tmp_path: Path) -> None:
    results = _read(tmp_path, Made(trials=4, confirm=False))
    paused = results.trials.assign(status="paused", reason="")
    story = Story(replace(results, trials=paused))
    title = headline(story).title
    assert re.fullmatch(r"No trial has completed yet; best so far \d\d\.\d%", title)


def test_one_seed_each_is_compared_over_items_or_not_at_all(results: Results) -> None:
    first = results.confirmation.drop_duplicates(["family", "trial"])
    single = replace(results, confirmation=first)
    assert "one seed does not tell how seeds differ" in _said(single)
    bare = replace(single, predictions={})
    assert "(one fresh seed each, so no interval)" in _said(bare)
    text = Reader(render(bare)).text
    assert "from 1 fresh seed, so no interval" in text
    assert "could not be drawn" not in text


def test_a_section_that_fails_spares_the_rest(results: Results) -> None:
    broken = results.epochs.rename(columns={"epoch": "lost"})
    text = Reader(render(replace(results, epochs=broken))).text
    # the learning curves, what mattered, every trial (its drawer has curves), what ails trainings
    assert text.count("This section could not be drawn") == 4
    assert "KeyError" in text
    assert "CNN wins: 97.7% test accuracy" in text


def test_report_and_analysis_import_neither_torch_nor_ax() -> None:
    root = Path(page.__file__).parents[1]
    for path in [*root.glob("analysis/*.py"), *root.glob("report/*.py")]:
        imported: Any = re.findall(r"^\s*(?:from|import) (\w+)", path.read_text(), re.MULTILINE)
        assert not {"torch", "torchvision", "ax", "botorch"} & set(imported), path
