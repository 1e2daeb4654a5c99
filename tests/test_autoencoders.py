"""Autoencoder against PCA, and AutoencoderProbe: what they promise beyond the common contract."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.training_jobs import job_for, run_job, space_of
from torch import nn

from torchstudy.analysis.tables import read_gallery
from torchstudy.data.dataset import ImageData
from torchstudy.data.spec import DataSpec
from torchstudy.errors import StudyError
from torchstudy.execution import job as jobs
from torchstudy.execution.exhibits import answers_path, gallery_path
from torchstudy.families.autoencoder import AutoencoderProbe, CodeNet
from torchstudy.families.base import Family
from torchstudy.families.compression import Autoencoder, PrincipalComponents
from torchstudy.families.phases import Fit, Phase
from torchstudy.fitting import instantiate
from torchstudy.models.saved import SavedModel, load_model, save_model
from torchstudy.records import Epoch, Objective, Outcome, Status
from torchstudy.study import Study
from torchstudy.training.batches import Batch
from torchstudy.training.optim import TrainingConfig

COLOUR = DataSpec(source="x", channels=3, height=13, width=17, classes=("a", "b"), num_train=99)
CLOSENESS = Objective(metric="reconstruction_error", direction="minimize")
QUICK = {"width": 64, "depth": 1, "batch_size": 16, "learning_rate": 0.01, "code": 2}


def trained(data: ImageData, folder: Path, epochs: int = 2) -> tuple[Outcome, list[Epoch]]:
    job = job_for(Autoencoder, data, folder, space_of(Autoencoder).recipe | QUICK, epochs)
    return run_job(replace(job, objective=CLOSENESS))


def measured(outcome: Outcome) -> dict[str, float]:
    """The metrics of the splits: what is timed differs between equal trainings."""
    splits = ("valid_", "select_")
    return {name: value for name, value in outcome.metrics.items() if name.startswith(splits)}


def unit_images(data: ImageData, split: str) -> np.ndarray:
    return np.asarray(data.pixels[data.splits[split]]) / 255


def reloaded(data: ImageData, run: Path, folder: Path) -> SavedModel:
    config = space_of(Autoencoder).recipe | QUICK
    instance = instantiate(Autoencoder, config).family
    state, spec = jobs.deployed_state(run, instance, data.spec)
    save_model(folder, family=Autoencoder, config=config, data=spec, state=state, metrics={})
    return load_model(folder, [Autoencoder])


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 13, 17), (1, 28, 28)])
def test_an_autoencoder_gives_codes_and_images_of_the_right_shape_and_range(
    shape: tuple[int, int, int],
) -> None:
    channels, height, width = shape
    data = replace(COLOUR, channels=channels, height=height, width=width)
    config = Autoencoder(code=5, width=64, depth=3)
    net, images = config.build(data), torch.rand(4, *shape)
    assert net.encoder(images).shape == (4, 5)
    rebuilt = net(images)
    assert rebuilt.shape == images.shape
    assert 0 <= rebuilt.min().item() <= rebuilt.max().item() <= 1
    pixels = channels * height * width
    inner = (pixels + 1) * 64 + 2 * 65 * 64 + (64 + 1) * 5  # one side, without its last bias
    assert sum(p.numel() for p in net.encoder.parameters()) == inner
    outer = (5 + 1) * 64 + 2 * 65 * 64 + (64 + 1) * pixels
    assert sum(p.numel() for p in net.decoder.parameters()) == outer


def test_principal_components_are_those_of_the_singular_value_decomposition() -> None:
    noise = torch.rand(200, 60, generator=torch.Generator().manual_seed(0))
    # Spreads that differ tell the axes apart: in single precision equal ones would mix.
    images = (noise * torch.linspace(0.2, 1, 60)).reshape(200, 3, 4, 5)
    components = PrincipalComponents(60, 7)
    components.fit(images)
    flat = images.flatten(1).double().numpy()
    centred = flat - flat.mean(axis=0)
    left, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    expected = (left[:, :7] * sizes[:7]) @ axes[:7] + flat.mean(axis=0)
    found = components(images)
    assert found.shape == images.shape
    assert found.flatten(1).numpy() == pytest.approx(expected, abs=1e-5)  # single precision


def test_the_pca_error_is_scikit_learns_on_the_same_split(
    striped: ImageData, tmp_path: Path
) -> None:
    from sklearn.decomposition import PCA

    outcome, rows = trained(striped, tmp_path)
    train, valid = (unit_images(striped, name).reshape(-1, 64) for name in ("train", "valid"))
    pca = PCA(2).fit(train)
    expected = np.square(pca.inverse_transform(pca.transform(valid)) - valid).mean()
    for row in rows:  # fitted once, and not moved by training
        assert row.metrics["pca_error"] == pytest.approx(expected, rel=1e-5)
        ratio = row.metrics["reconstruction_error"] / row.metrics["pca_error"]
        assert row.metrics["pca_ratio"] == ratio
        assert row.metrics["reconstruction_error"] == row.valid_loss
    assert outcome.metrics["select_pca_error"] != pytest.approx(expected, rel=1e-3)


def test_an_autoencoder_comes_back_from_its_file_with_codes_pictures_and_components(
    striped: ImageData, tmp_path: Path
) -> None:
    outcome, _ = trained(striped, tmp_path / "run")
    model = reloaded(striped, tmp_path / "run", tmp_path / "model")
    pixels = torch.from_numpy(np.array(striped.pixels[striped.splits["valid"]]))
    saved = np.load(answers_path(tmp_path / "run", "valid"))
    assert saved.files == ["code"]
    assert model.codes(pixels).numpy() == pytest.approx(saved["code"], abs=1e-5)
    pictures = model.pictures(pixels)
    assert list(pictures) == ["original", "reconstruction", "pca"]
    for name, metric in (("reconstruction", "reconstruction_error"), ("pca", "pca_error")):
        error = float((pictures[name] - pictures["original"]).square().mean())
        assert error == pytest.approx(outcome.metrics[f"valid_{metric}"], rel=1e-4)
    with pytest.raises(StudyError, match="Autoencoder predicts nothing"):
        model.predict(pixels)


def test_pictures_of_the_untrained_network_already_have_the_components(
    striped: ImageData, tmp_path: Path
) -> None:
    trained(striped, tmp_path)
    gallery = read_gallery(gallery_path(tmp_path))
    assert list(gallery) == [0, 1, 2]
    assert np.array_equal(gallery[0]["pca"], gallery[2]["pca"])
    assert not np.array_equal(gallery[0]["reconstruction"], gallery[2]["reconstruction"])


def test_a_paused_autoencoder_goes_on_with_the_components_it_had(
    striped: ImageData, tmp_path: Path
) -> None:
    whole, _ = trained(striped, tmp_path / "whole")
    job = job_for(Autoencoder, striped, tmp_path / "cut", space_of(Autoencoder).recipe | QUICK)
    job = replace(job, objective=CLOSENESS)
    rows: list[object] = []
    paused = jobs.run(job, rows.append, lambda: bool(rows))
    assert paused.status is Status.PAUSED
    resumed = jobs.run(job, rows.append, lambda: False)
    assert measured(resumed) == measured(whole)


def test_training_brings_the_error_down_without_targets(striped: ImageData, tmp_path: Path) -> None:
    _, rows = trained(striped, tmp_path, epochs=10)
    assert rows[-1].metrics["reconstruction_error"] < 0.8 * rows[0].metrics["reconstruction_error"]


def test_a_code_of_more_numbers_than_components_is_a_problem() -> None:
    small = replace(COLOUR, num_train=20)
    assert Autoencoder(code=20).problems(small) == []
    assert Autoencoder(code=21).problems(small) == [
        "code=21 is more than the 20 principal components that 20 training images of 663 values "
        "have: narrow code"
    ]


@pytest.mark.parametrize("cls", [Autoencoder, AutoencoderProbe])
def test_several_images_an_item_are_a_problem(cls: type[Family]) -> None:
    (problem,) = cls().problems(replace(COLOUR, views=4))
    assert problem == "takes one image an item, but the data have 4; use MultiInput"


def test_an_autoencoder_is_not_ranked_by_accuracy() -> None:
    with pytest.raises(StudyError, match="Autoencoder does not report 'accuracy'"):
        Study(data="digits", families=[Autoencoder], maximize="accuracy")


def test_a_code_that_loses_nothing_has_a_finite_ratio(striped: ImageData) -> None:
    config = Autoencoder(code=2, width=64, depth=1)
    net = config.build(striped.spec).eval()
    flat = torch.full((6, 1, 8, 8), 0.5)
    net.components.mean.fill_(0.5)
    with torch.inference_mode():
        metrics = config.score(net, striped.spec, [Batch(flat, torch.zeros(6))])
    assert metrics["pca_error"] == 0
    assert metrics["reconstruction_error"] > 0
    assert np.isfinite(metrics["pca_ratio"])


# -- AutoencoderProbe --------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("size", [(8, 8), (13, 17), (28, 28)])
def test_a_probed_autoencoder_keeps_shape_and_range(size: Sequence[int], depth: int) -> None:
    data = replace(COLOUR, height=size[0], width=size[1])
    net = AutoencoderProbe(depth=depth, code=4, normalisation="none").build(data)
    images = torch.rand(2, 3, *size)
    rebuilt = net.reconstruct(images)
    assert rebuilt.shape == images.shape
    assert 0 <= rebuilt.min().item() <= rebuilt.max().item() <= 1


def test_the_probe_alone_sees_labels() -> None:
    phase, fit = AutoencoderProbe().phases(COLOUR, TrainingConfig())
    assert isinstance(phase, Phase)
    assert isinstance(fit, Fit)
    net = AutoencoderProbe().build(COLOUR)
    assert isinstance(net, CodeNet)
    learning = {id(parameter) for parameter in phase.parameters(net)}
    everything = {id(parameter) for parameter in net.parameters()}
    assert everything - learning == {id(parameter) for parameter in net.probe.parameters()}


def test_a_probe_is_scored_on_its_code_and_shows_what_it_rebuilds(
    striped: ImageData, tmp_path: Path
) -> None:
    config = space_of(AutoencoderProbe).recipe | {"batch_size": 16, "code": 8}
    job = job_for(AutoencoderProbe, striped, tmp_path, config)
    outcome, _ = run_job(job)
    answers = np.load(answers_path(tmp_path, "valid"))
    targets = striped.targets[striped.splits["valid"]]
    accuracy = float((answers["predicted"] == targets).mean())
    assert outcome.metrics["valid_accuracy"] == pytest.approx(accuracy)
    assert answers["code"].shape == (len(targets), 8)
    instance = AutoencoderProbe(code=8)
    net = instance.build(striped.spec)
    net.load_state_dict(jobs.deployed_state(tmp_path, instance, striped.spec)[0])
    images = torch.from_numpy(unit_images(striped, "valid")).float()
    with torch.inference_mode():
        error = nn.functional.mse_loss(net.eval().reconstruct(images), images)
    assert outcome.metrics["valid_reconstruction_error"] == pytest.approx(float(error), rel=1e-4)
    assert set(read_gallery(gallery_path(tmp_path))[2]) == {"original", "reconstruction"}
