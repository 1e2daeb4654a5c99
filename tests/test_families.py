"""The contract that holds for every family, and what is particular to each."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from torchstudy.data.dataset import ImageData
from torchstudy.data.spec import DataSpec
from torchstudy.domains import Choice, Int
from torchstudy.errors import StudyError
from torchstudy.execution import job as jobs
from torchstudy.execution.job import Job
from torchstudy.families.autoencoder import AutoencoderProbe, CodeNet
from torchstudy.families.backbones import registered_backbones
from torchstudy.families.base import Family, Fit, Phase, domains_with_training, family
from torchstudy.families.cnn import CNN
from torchstudy.families.logistic import fit_logistic
from torchstudy.families.transfer import PartlyFrozen, Transfer
from torchstudy.models.saved import load_model, save_model
from torchstudy.records import Epoch, Objective, Outcome, Status, TrainingKey
from torchstudy.space import Config, SearchSpace
from torchstudy.study import Study, instantiate
from torchstudy.training.batches import Split
from torchstudy.training.optim import TrainingConfig

FAMILIES = [CNN, Transfer, AutoencoderProbe]
ACCURACY = Objective(metric="accuracy", direction="maximize")


def space_of(cls: type[Family]) -> SearchSpace:
    return SearchSpace(domains_with_training(cls))


def job_for(
    cls: type[Family], data: ImageData, folder: Path, config: Config | None = None, epochs: int = 2
) -> Job:
    return Job(
        action="train",
        key=TrainingKey(family=cls.__name__, number=0, seed=5),
        family=cls,
        config=config or space_of(cls).recipe,
        objective=ACCURACY,
        epochs=epochs,
        purpose="confirmation",
        data=data.handle,
        folder=folder,
    )


def run_job(job: Job) -> tuple[Outcome, list[Epoch]]:
    rows: list[Epoch] = []

    def report(payload: object) -> None:
        if isinstance(payload, Epoch):
            rows.append(payload)

    return jobs.run(job, report, lambda: False), rows


def configs_of(cls: type[Family]) -> Iterator[Config]:
    """The recipe, every bound and choice, and a few random configurations."""
    generator = np.random.default_rng(0)
    yield from space_of(cls).corners()
    yield from (space_of(cls).sample(generator) for _ in range(3))


@pytest.mark.parametrize("cls", FAMILIES)
def test_every_configuration_trains_and_reports_what_the_family_promises(
    cls: type[Family], striped: ImageData, tmp_path: Path
) -> None:
    for index, config in enumerate(configs_of(cls)):
        job = job_for(cls, striped, tmp_path / str(index), config, epochs=1)
        outcome, rows = run_job(job)
        assert outcome.status is Status.COMPLETED, (config, outcome.reason)
        assert {f"valid_{name}" for name in cls.metrics} <= outcome.metrics.keys()
        assert {f"select_{name}" for name in cls.metrics} <= outcome.metrics.keys()
        assert "accuracy" in rows[-1].metrics
        assert outcome.parameters > 0


@pytest.mark.parametrize("cls", FAMILIES)
def test_the_same_seed_gives_the_same_numbers(
    cls: type[Family], striped: ImageData, tmp_path: Path
) -> None:
    first = run_job(job_for(cls, striped, tmp_path / "a"))
    second = run_job(job_for(cls, striped, tmp_path / "b"))
    assert first[0] == second[0]
    assert [row.values() for row in first[1]] == [row.values() for row in second[1]]


@pytest.mark.parametrize("cls", FAMILIES)
def test_a_saved_model_predicts_the_same_after_loading(
    cls: type[Family], striped: ImageData, tmp_path: Path
) -> None:
    job = job_for(cls, striped, tmp_path / "run")
    run_job(job)
    instance, _ = instantiate(cls, job.config)
    state, spec = jobs.deployed_state(job.folder, instance, striped.spec)
    folder = tmp_path / "model"
    save_model(
        folder, family=cls, config=job.config, data=spec, state=state, metrics={"accuracy": 1.0}
    )
    model = load_model(folder)
    rows = striped.splits["valid"]
    pixels = torch.from_numpy(np.array(striped.pixels[rows]))
    probabilities = model.probabilities(pixels)
    saved = np.load(jobs.predictions_path(job.folder, "valid"))
    assert probabilities.argmax(dim=1).tolist() == saved["predicted"].tolist()
    assert probabilities.max(dim=1).values.numpy() == pytest.approx(saved["confidence"], abs=1e-5)
    assert model.classes == striped.spec.classes


@pytest.mark.parametrize("cls", FAMILIES)
def test_the_test_split_is_scored_with_the_weights_that_training_left(
    cls: type[Family], striped: ImageData, tmp_path: Path
) -> None:
    job = job_for(cls, striped, tmp_path)
    run_job(job)
    outcome = jobs.run(replace(job, action="test"), lambda payload: None, lambda: False)
    assert outcome.status is Status.COMPLETED, outcome.reason
    assert 0 <= outcome.metrics["test_accuracy"] <= 1
    predicted = np.load(jobs.predictions_path(tmp_path, "test"))["predicted"]
    targets = striped.labels[striped.splits["test"]]
    assert outcome.metrics["test_accuracy"] == pytest.approx(float((predicted == targets).mean()))


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


# -- transfer ----------------------------------------------------------------------------------


def test_frozen_features_are_computed_once_for_all_trials(
    striped: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHSTUDY_CACHE", str(tmp_path / "cache"))
    notes: list[str] = []
    for number in range(3):
        job = job_for(Transfer, striped, tmp_path / str(number))
        outcome = jobs.run(
            job,
            lambda payload: notes.append(payload.text) if isinstance(payload, jobs.Note) else None,
            lambda: False,
        )
        assert outcome.status is Status.COMPLETED
    assert notes == ["computing the features of 180 images, once for all trials"]


def test_a_truncated_feature_file_is_computed_again(
    striped: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHSTUDY_CACHE", str(tmp_path / "cache"))
    first, _ = run_job(job_for(Transfer, striped, tmp_path / "a"))
    (features,) = (tmp_path / "cache" / "features").glob("*.npy")
    features.write_bytes(features.read_bytes()[:-100])
    second, _ = run_job(job_for(Transfer, striped, tmp_path / "b"))
    assert first == second


def test_unfrozen_blocks_learn_and_batch_norm_keeps_its_statistics(
    striped: ImageData, tmp_path: Path
) -> None:
    config = space_of(Transfer).recipe | {"unfreeze": 1, "batch_size": 32}
    net = Transfer(unfreeze=1).build(striped.spec)
    assert isinstance(net, PartlyFrozen)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    trained = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    assert {name for name in trained if name.startswith("backbone")} == {
        "backbone.stages.2.0.weight",
        "backbone.stages.2.1.weight",
        "backbone.stages.2.1.bias",
    }
    net.train()(torch.rand(8, 1, 8, 8)).sum().backward()
    for name, value in net.state_dict().items():
        if "backbone" in name and "running" in name:
            assert torch.equal(value, before[name]), name
    job = job_for(Transfer, striped, tmp_path)
    outcome = jobs.run(replace(job, config=config), lambda payload: None, lambda: False)
    assert outcome.status is Status.COMPLETED, outcome.reason
    state, spec = jobs.deployed_state(tmp_path, Transfer(unfreeze=1), striped.spec)
    network = Transfer(unfreeze=1).deployed(spec)
    network.load_state_dict(state)


def test_a_backbone_is_refused_on_images_it_was_trained_on(striped: ImageData) -> None:
    from torchstudy.families.backbones import find_backbone

    seen = find_backbone("fashion-small", "default").sketch
    assert len(seen) == 1024
    assert Transfer().problems(striped.spec) == ()
    (problem,) = Transfer().problems(replace(striped.spec, sketch=seen[:3]))
    assert problem.startswith("backbone 'fashion-small' was trained on images of this data set")


def test_unknown_backbones_and_missing_weights_are_problems(striped: ImageData) -> None:
    (problem,) = Transfer(backbone="mobilenet_v22").problems(striped.spec)
    assert problem == (
        "backbone 'mobilenet_v22' is neither 'fashion-small', nor a torchvision.models "
        "classifier, nor registered (did you mean 'mobilenet_v2'?)"
    )
    (problem,) = Transfer(backbone="mobilenet_v2", weights="nowhere.pth").problems(striped.spec)
    assert problem.startswith("weights 'nowhere.pth': no such file here or in ")


def test_weights_that_do_not_fit_are_refused_with_the_keys(
    striped: ImageData, tmp_path: Path
) -> None:
    path = tmp_path / "odd.pth"
    torch.save({"features.0.0.weight": torch.zeros(3), "odd": torch.zeros(1)}, path)
    (problem,) = Transfer(backbone="mobilenet_v2", weights=str(path)).problems(striped.spec)
    assert problem.startswith("weights odd.pth do not fit mobilenet_v2: 313 keys missing (")
    assert "1 keys not expected (odd)" in problem
    assert "features.0.0.weight is (3,), needed (32, 3, 3, 3)" in problem


def test_weights_that_could_run_code_are_refused(striped: ImageData, tmp_path: Path) -> None:
    import pickle

    path = tmp_path / "bomb.pth"
    path.write_bytes(pickle.dumps({"run": print}, protocol=2))
    (problem,) = Transfer(backbone="mobilenet_v2", weights=str(path)).problems(striped.spec)
    assert problem.startswith("weights bomb.pth: refused, the file holds more than tensors")


class Averages(nn.Module):
    """Mean, spread and extremes of an image: a backbone of one's own."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        flat = images.flatten(1)
        return torch.stack([flat.mean(1), flat.std(1), flat.amax(1), flat.amin(1)], dim=1)


def test_a_function_can_be_registered_as_a_backbone(striped: ImageData, tmp_path: Path) -> None:
    from torchstudy import register_backbone

    name = register_backbone("averages", Averages, mean=(0.5,), std=(0.25,))
    config = space_of(Transfer).recipe | {"backbone": name}
    outcome, _ = run_job(job_for(Transfer, striped, tmp_path, config))
    assert outcome.status is Status.COMPLETED, outcome.reason
    register_backbone("maps", nn.Identity, mean=(0.5,), std=(0.25,))
    (problem,) = Transfer(backbone="maps").problems(striped.spec)
    assert problem == "backbone 'maps' returns (1, 1, 8, 8) for one image, not a vector"


def test_a_study_takes_a_function_as_backbone_and_gives_it_its_name() -> None:
    def spread() -> nn.Module:
        return Averages()

    study = Study(
        data="digits",
        families=[Transfer],
        maximize="accuracy",
        space={"Transfer.backbone": spread},
    )
    assert study.space_of(Transfer).recipe["backbone"] == "spread"
    assert registered_backbones()["spread"].build is spread


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
    split = Split.of(striped.pixels, rows, striped.labels[rows])
    assert split.array.data_ptr() == striped.pixels.ctypes.data


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("resnet18", "layer4"),
        ("densenet121", "features.denseblock4"),
        ("efficientnet_b0", "features.8"),
        ("mobilenet_v2", "features.18"),
        ("convnext_tiny", "features.7"),
        ("vit_b_16", "encoder.layers.encoder_layer_11"),
    ],
)
def test_torchvision_networks_lose_their_last_layer_and_give_their_stages(
    name: str, last: str
) -> None:
    """Slow: torchvision takes seconds to import and these networks have millions of weights."""
    from torchstudy.families.backbones import find_backbone, last_blocks

    network = find_backbone(name, "default").architecture().eval()
    with torch.inference_mode():
        features = network(torch.zeros(1, 3, 224, 224))
    assert features.ndim == 2
    assert features.shape[1] >= 512
    assert last_blocks(network, 1)[0] is network.get_submodule(last)
    assert len(last_blocks(network, 2)) > len(last_blocks(network, 1))
