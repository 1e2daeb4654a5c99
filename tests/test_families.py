"""The contract that holds for every family, and what is particular to each."""

import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.answering import answers
from tests.conftest import rows_table
from tests.training_jobs import configs_of, job_for, objective_of, run_job, space_of, steady
from torch import nn

from torchstudy.data.dataset import ImageData
from torchstudy.data.spec import DataSpec
from torchstudy.domains import Choice, Int
from torchstudy.errors import StudyError
from torchstudy.execution import job as jobs
from torchstudy.execution.exhibits import answers_path
from torchstudy.families.autoencoder import AutoencoderProbe, CodeNet
from torchstudy.families.base import Family, family
from torchstudy.families.built_in import BUILT_IN
from torchstudy.families.cnn import CNN
from torchstudy.families.logistic import fit_logistic
from torchstudy.families.multi_input import MultiInput
from torchstudy.families.phases import Fit, Phase
from torchstudy.fitting import instantiate
from torchstudy.models.saved import load_model, save_model
from torchstudy.records import Epoch, Status
from torchstudy.training.batches import Split
from torchstudy.training.optim import TrainingConfig

FAMILIES = list(BUILT_IN)


@pytest.fixture
def data(cls: type[Family], striped: ImageData, tabled: ImageData) -> ImageData:
    """Small data that the family can be used on."""
    return tabled if cls is MultiInput else striped


def numbers(rows: list[Epoch]) -> pd.DataFrame:
    return pd.DataFrame([row.values() for row in rows])


@pytest.mark.parametrize("cls", FAMILIES)
def test_every_configuration_trains_and_reports_what_the_family_promises(
    cls: type[Family], data: ImageData, tmp_path: Path
) -> None:
    for index, config in enumerate(configs_of(cls)):
        assert not instantiate(cls, config).family.problems(data.spec)
        job = job_for(cls, data, tmp_path / str(index), config, epochs=1)
        outcome, rows = run_job(job)
        assert outcome.status is Status.COMPLETED, (config, outcome.reason)
        reported = cls.reports("classification")
        assert {f"valid_{name}" for name in reported} <= outcome.metrics.keys()
        assert {f"select_{name}" for name in reported} <= outcome.metrics.keys()
        assert objective_of(cls).metric in {**rows[-1].metrics, "loss": 0}
        assert outcome.parameters > 0
        assert {"flops", "memory", "latency_p50", "latency_p95"} <= outcome.metrics.keys()


@pytest.mark.parametrize("cls", FAMILIES)
def test_the_same_seed_gives_the_same_numbers(
    cls: type[Family], data: ImageData, tmp_path: Path
) -> None:
    first = run_job(job_for(cls, data, tmp_path / "a"))
    second = run_job(job_for(cls, data, tmp_path / "b"))
    assert steady(first[0]) == steady(second[0])
    assert numbers(first[1]).equals(numbers(second[1]))


@pytest.mark.parametrize("cls", FAMILIES)
def test_a_stopped_training_ends_as_one_that_was_not(
    cls: type[Family], data: ImageData, tmp_path: Path
) -> None:
    whole, rows = run_job(job_for(cls, data, tmp_path / "whole", epochs=3))
    stopped = job_for(cls, data, tmp_path / "stopped", epochs=3)
    asked = 0

    def once_epochs_are_under_way() -> bool:
        nonlocal asked
        asked += 1
        return asked == 4

    first = jobs.run(stopped, lambda payload: None, once_epochs_are_under_way)
    assert first.status in (Status.PAUSED, Status.COMPLETED)
    second, again = run_job(stopped)
    assert steady(second) == steady(whole)
    assert numbers(again).equals(numbers(rows))


@pytest.fixture(scope="module")
def saved(striped: ImageData, tabled: ImageData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained model of every family, and what each is asked about."""
    folder = tmp_path_factory.mktemp("saved")
    for cls in FAMILIES:
        data = tabled if cls is MultiInput else striped
        job = job_for(cls, data, folder / "runs" / cls.__name__)
        outcome, _ = run_job(job)
        assert outcome.status is Status.COMPLETED, outcome.reason
        state, spec = jobs.deployed_state(
            job.folder, instantiate(cls, job.config).family, data.spec
        )
        place = folder / "models" / cls.__name__
        save_model(place, family=cls, config=job.config, data=spec, state=state, metrics={})
        rows = data.splits["valid"]
        np.save(folder / f"{cls.__name__}.npy", data.pixels[rows])
        rows_table().iloc[rows].to_csv(folder / f"{cls.__name__}.csv", index=False)
    return folder


@pytest.mark.slow
def test_saved_models_answer_in_a_fresh_process_as_they_did_in_training(saved: Path) -> None:
    """Slow: every family is trained, and another process imports everything to load it."""
    script = Path(__file__).with_name("answering.py")
    subprocess.run([sys.executable, str(script), str(saved)], check=True)
    for cls in FAMILIES:
        name = cls.__name__
        here = answers(
            load_model(saved / "models" / name),
            torch.from_numpy(np.load(saved / f"{name}.npy")),
            pd.read_csv(saved / f"{name}.csv"),
        )
        with np.load(saved / f"{name}.npz") as there:
            assert set(there.files) == set(here) != set()
            for key in there.files:
                assert (there[key] == here[key]).all(), (name, key)
        kept = answers_path(saved / "runs" / name, "valid")
        with np.load(kept) if kept.exists() else nullcontext({}) as trained:
            for key in trained:
                assert here[key] == pytest.approx(trained[key], abs=1e-5), (name, key)


@pytest.mark.parametrize("cls", FAMILIES)
def test_the_test_split_is_scored_with_the_weights_that_training_left(
    cls: type[Family], data: ImageData, tmp_path: Path
) -> None:
    job = job_for(cls, data, tmp_path)
    run_job(job)
    outcome = jobs.run(replace(job, action="test"), lambda payload: None, lambda: False)
    assert outcome.status is Status.COMPLETED, outcome.reason
    assert {f"test_{name}" for name in cls.reports("classification")} <= outcome.metrics.keys()
    if cls.goal == "prediction":
        predicted = np.load(answers_path(tmp_path, "test"))["predicted"]
        share = float((predicted == data.targets[data.splits["test"]]).mean())
        assert outcome.metrics["test_accuracy"] == pytest.approx(share)


# -- failures are outcomes ---------------------------------------------------------------------


@family
class Broken(Family):
    """Fails in the way its field says."""

    how: str = Choice("error", "memory", "shape", default="error")

    def build(self, data: DataSpec) -> nn.Module:
        if self.how == "memory":
            raise MemoryError
        if self.how == "error":
            raise KeyError("no such layer")
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 3), nn.Unflatten(1, (3, 1)))


@pytest.mark.parametrize(
    ("how", "status", "reason"),
    [
        ("error", Status.CRASHED, "KeyError: 'no such layer'"),
        ("memory", Status.OUT_OF_MEMORY, "the worker ran out of memory"),
        ("shape", Status.CRASHED, "the network returns (16, 3, 1), expected (16, classes)"),
    ],
)
def test_a_configuration_that_fails_is_an_outcome_with_its_reason(
    striped: ImageData, tmp_path: Path, how: str, status: Status, reason: str
) -> None:
    config = {**space_of(Broken).recipe, "how": how, "batch_size": 16}
    outcome, rows = run_job(job_for(Broken, striped, tmp_path, config))
    assert outcome.status is status
    assert reason in outcome.reason or "classes)" in reason
    assert rows == []


# -- CNN ---------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    depth=st.integers(1, 3),
    width=st.integers(1, 12),
    kernel=st.sampled_from([3, 5]),
    norm=st.sampled_from(["none", "batch"]),
    size=st.tuples(st.integers(8, 21), st.integers(8, 21)),
    channels=st.sampled_from([1, 3]),
)
def test_a_cnn_has_the_parameters_that_its_configuration_implies(
    depth: int, width: int, kernel: int, norm: str, size: tuple[int, int], channels: int
) -> None:
    data = DataSpec(
        source="x",
        channels=channels,
        height=size[0],
        width=size[1],
        classes=tuple("abcd"),
        num_train=1,
    )
    net = CNN(depth=depth, width=width, kernel=kernel, normalisation=norm).build(data)
    expected, narrow = 0, channels
    for level in range(depth):
        wide = width * 2**level
        per_channel = 2 if norm == "batch" else 1  # scale and shift, or one bias
        expected += narrow * wide * kernel**2 + per_channel * wide
        narrow = wide
    pixels = (size[0] // 2**depth) * (size[1] // 2**depth)
    expected += (narrow * pixels + 1) * 4
    assert sum(parameter.numel() for parameter in net.parameters()) == expected
    assert net.eval()(torch.zeros(2, channels, *size)).shape == (2, 4)


def test_pooling_before_a_monotone_activation_computes_the_same() -> None:
    torch.manual_seed(0)
    maps = torch.randn(4, 3, 9, 9)
    from torchstudy.families.blocks import ACTIVATIONS, pooled_activation

    for name in ("relu", "leaky-relu"):
        fast = nn.Sequential(*pooled_activation(name, "max"))
        plain = nn.Sequential(ACTIVATIONS[name](), nn.MaxPool2d(2))
        assert torch.equal(fast(maps.clone()), plain(maps.clone()))
    kinds = [type(layer) for layer in pooled_activation("gelu", "max")]
    assert kinds == [nn.GELU, nn.MaxPool2d]


@pytest.mark.parametrize("cls", [CNN, AutoencoderProbe])
def test_an_image_too_small_for_the_depth_is_a_problem(cls: type[Family]) -> None:
    data = DataSpec(source="x", channels=1, height=6, width=8, classes=("a", "b"), num_train=1)
    assert cls(depth=2).problems(data) == ()
    (problem,) = cls(depth=3).problems(data)
    assert problem == (
        "depth=3 halves the image 3 times and needs at least 8 px, but the images have 6 x 8: "
        "narrow depth or raise the image size"
    )


# -- autoencoder -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(8, 8), (13, 17), (28, 28)])
def test_reconstructions_have_the_shape_and_range_of_the_images(size: tuple[int, int]) -> None:
    data = DataSpec(
        source="x", channels=3, height=size[0], width=size[1], classes=("a", "b"), num_train=1
    )
    net = AutoencoderProbe(depth=3, code=4).build(data)
    assert isinstance(net, CodeNet)
    images = torch.rand(2, 3, *size)
    rebuilt = net.reconstruct(images)
    assert rebuilt.shape == images.shape
    assert 0 <= rebuilt.min().item() <= rebuilt.max().item() <= 1


def test_the_autoencoder_learns_without_labels(striped: ImageData, tmp_path: Path) -> None:
    instance = AutoencoderProbe()
    (phase, fit) = instance.phases(striped.spec, TrainingConfig())
    assert isinstance(phase, Phase)
    assert isinstance(fit, Fit)
    net = instance.build(striped.spec)
    trained = {id(parameter) for parameter in phase.parameters(net)}
    assert not trained & {id(parameter) for parameter in net.probe.parameters()}
    config = space_of(AutoencoderProbe).recipe | {"batch_size": 16, "learning_rate": 0.01}
    _, rows = run_job(job_for(AutoencoderProbe, striped, tmp_path, config, epochs=12))
    errors = [row.metrics["reconstruction_error"] for row in rows]
    assert errors[-1] < 0.8 * errors[0]


def test_logistic_regression_is_folded_into_one_layer_exactly() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    generator = np.random.default_rng(0)
    features = generator.normal(3.0, 5.0, size=(90, 6)).astype(np.float32)
    for num_classes in (2, 3):
        targets = (features[:, 0] > 3).astype(int) + (num_classes == 3) * (features[:, 1] > 6)
        layer = nn.Linear(6, num_classes)
        fit_logistic(
            layer,
            torch.from_numpy(features),
            torch.from_numpy(targets),
            regularisation=0.5,
            max_steps=500,
        )
        reference = make_pipeline(StandardScaler(), LogisticRegression(C=2.0, max_iter=500))
        expected = reference.fit(features, targets).predict_proba(features)
        found = layer(torch.from_numpy(features)).softmax(dim=1).detach().numpy()
        assert found == pytest.approx(expected, abs=1e-4)


# -- families of one's own -----------------------------------------------------------------------


def test_a_class_that_is_no_family_is_refused() -> None:
    with pytest.raises(StudyError, match="must be a subclass of Family"):
        family(dict)  # type: ignore[type-var]


def test_a_family_stays_the_class_it_was_and_calls_super() -> None:
    @family
    class Own(Family):
        """One layer."""

        size: int = Int(1, 9, default=3)

        def build(self, data: DataSpec) -> nn.Module:
            return nn.Linear(self.size, data.num_classes)

        def problems(self, data: DataSpec) -> list[str]:
            return [*super().problems(data), "never happy"]

    assert Own.__name__ == "Own"
    assert Own().size == 3
    data = DataSpec(source="x", channels=1, height=8, width=8, classes=("a",), num_train=1)
    assert Own(size=5).problems(data) == ["never happy"]


def test_splits_share_the_memory_of_their_array(striped: ImageData) -> None:
    rows = striped.splits["train"]
    split = Split.of(striped.pixels, rows, striped.targets[rows])
    assert split.array.data_ptr() == striped.pixels.ctypes.data
