"""MultiInput: two branches, views that share weights, frozen or from scratch, and houses."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.conftest import SHARED
from tests.training_jobs import job_for, run_job, space_of

from torchstudy.data.dataset import DataHandle, ImageData, prepare
from torchstudy.data.images import Images
from torchstudy.data.spec import DataSpec
from torchstudy.execution import job as jobs
from torchstudy.families.multi_input import BranchedNet, MultiInput
from torchstudy.families.phases import Fit
from torchstudy.families.transfer import Transfer
from torchstudy.records import Objective, Status
from torchstudy.training.batches import Batch
from torchstudy.training.features import features_of
from torchstudy.training.optim import TrainingConfig

DATA = DataSpec(
    source="x",
    channels=3,
    height=16,
    width=20,
    classes=(),
    num_train=40,
    mean=(0.5,) * 3,
    std=(0.25,) * 3,
    views=4,
    task="regression",
    target="price",
    target_mean=12.0,
    target_std=2.0,
    numbers=("area", "rooms"),
    categories=("zipcode",),
    category_values=(tuple("abcdefgh"),),
)
FEATURES = 512  # of the shipped backbone


def batch_of(data: DataSpec, size: int = 6) -> Batch:
    generator = torch.Generator().manual_seed(0)
    views = (data.views,) if data.views > 1 else ()
    return Batch(
        torch.randn(size, *views, *data.shape, generator=generator),
        torch.randint(0, 2, (size,), generator=generator),
        torch.randn(size, len(data.numbers), generator=generator),
        torch.randint(0, 9, (size, len(data.categories)), generator=generator),
    )


@pytest.mark.parametrize("branches", ["both", "image", "table"])
@pytest.mark.parametrize("backbone", ["fashion-small", "none"])
@pytest.mark.parametrize("views", [1, 4])
@pytest.mark.parametrize("classes", [(), ("a", "b"), ("a", "b", "c")])
def test_every_branch_gives_outputs_for_every_task(
    branches: str, backbone: str, views: int, classes: tuple[str, ...]
) -> None:
    task = "classification" if classes else "regression"
    data = replace(DATA, views=views, classes=classes, task=task)
    config = MultiInput(branches=branches, backbone=backbone)
    assert config.problems(data) == ()
    batch = batch_of(data)
    encoder = config.encoder(data)
    assert (encoder is None) == (branches == "table" or backbone == "none")
    if encoder is not None:
        grey = batch.inputs.mean(dim=-3, keepdim=True)
        batch = replace(batch, inputs=features_of(encoder.build().eval(), grey))
        assert batch.inputs.shape == (6, views * FEATURES)
        data = replace(data, num_features=views * FEATURES)
    net = config.build(data).eval()
    assert config.outputs(net, batch).shape == (6, data.num_outputs)
    predicted = config.predict(net, data, batch)
    assert predicted is not None
    assert predicted.shape == ((6, len(classes)) if classes else (6,))
    loss = config.prediction_loss(data, TrainingConfig())(net.train(), batch)
    loss.backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    assert config.uses_images(data) == (branches != "table")


def test_views_share_their_weights_and_their_order_does_not_matter() -> None:
    config = MultiInput(branches="image", backbone="none")
    net = config.build(DATA).eval()
    batch = batch_of(DATA)
    turned = replace(batch, inputs=batch.inputs.flip(1))
    assert torch.allclose(config.outputs(net, batch), config.outputs(net, turned), atol=1e-6)
    one = config.build(replace(DATA, views=1))
    count = sum(parameter.numel() for parameter in net.parameters())
    assert count == sum(parameter.numel() for parameter in one.parameters())


def test_a_branch_that_is_left_out_is_not_looked_at() -> None:
    batch = batch_of(DATA)
    other = batch_of(replace(DATA, source="y"), 6)
    other = replace(
        batch,
        numbers=-batch.numbers,
        categories=(batch.categories + 1) % 9,  # type: ignore[operator]
    )
    image = MultiInput(branches="image", backbone="none")
    net = image.build(DATA).eval()
    assert torch.equal(image.outputs(net, batch), image.outputs(net, other))
    dark = replace(batch, inputs=torch.zeros_like(batch.inputs))
    table = MultiInput(branches="table")
    net = table.build(DATA).eval()
    assert torch.equal(table.outputs(net, batch), table.outputs(net, dark))
    both = MultiInput(backbone="none")
    net = both.build(DATA).eval()
    assert not torch.allclose(both.outputs(net, batch), both.outputs(net, other))
    assert not torch.allclose(both.outputs(net, batch), both.outputs(net, dark))


def test_unknown_categories_become_zeros() -> None:
    net = MultiInput(branches="table", embedding=3).build(DATA)
    assert net.table is not None
    found = net.table(torch.tensor([[1.5, -2.0]]), torch.tensor([[0]]))
    assert found.tolist() == [[1.5, -2.0, 0.0, 0.0, 0.0]]


def test_the_scale_of_frozen_features_is_fitted_before_the_first_step() -> None:
    data = replace(DATA, num_features=8)
    config = MultiInput()
    net = config.build(data)
    (fit, _) = config.phases(data, TrainingConfig())
    assert isinstance(fit, Fit)
    assert fit.at == "start"
    features = torch.randn(50, 8, generator=torch.Generator().manual_seed(0)) * 7 + 3
    split = jobs.Split(array=features, rows=torch.arange(50), targets=torch.zeros(50))
    fit.function(net, split)
    assert net.images is not None
    scaled = net.images.scale(features)
    assert torch.allclose(scaled.mean(dim=0), torch.zeros(8), atol=1e-5)
    assert torch.allclose(scaled.std(dim=0, correction=0), torch.ones(8), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "branches", "problem"),
    [
        (
            {"channels": 0},
            "both",
            "branches='both' needs images, but the data have none: give "
            'space={"MultiInput.branches": "table"}',
        ),
        (
            {"numbers": (), "categories": ()},
            "table",
            "branches='table' needs columns of numbers or categories, but the data have none: give "
            'space={"MultiInput.branches": "image"}',
        ),
    ],
)
def test_data_that_lack_what_a_branch_needs_are_a_problem(
    change: dict[str, object], branches: str, problem: str
) -> None:
    assert MultiInput(branches=branches).problems(replace(DATA, **change)) == (problem,)
    other = "table" if "channels" in change else "image"
    assert MultiInput(branches=other).problems(replace(DATA, **change)) == ()


# Slow: torchvision takes seconds to import.
@pytest.mark.slow
def test_backbones_are_checked_as_transfer_checks_them() -> None:
    (problem,) = MultiInput(backbone="mobilenet_v22").problems(DATA)
    assert problem.startswith("backbone 'mobilenet_v22' is neither")
    assert MultiInput(backbone="mobilenet_v22", branches="table").problems(DATA) == ()
    missing = MultiInput(backbone="mobilenet_v2", weights="nowhere.pth")
    (problem,) = missing.problems(DATA)
    assert problem.startswith("weights 'nowhere.pth': no such file")


def test_features_are_shared_with_transfer() -> None:
    one = MultiInput(input_size=24).encoder(DATA)
    other = Transfer(input_size=24).encoder(replace(DATA, views=1))
    assert one is not None
    assert other is not None
    assert (one.key, one.preprocessing) == (other.key, other.preprocessing)


def houses_of_stripes(striped: ImageData, folder: Path) -> ImageData:
    """Two views of the striped images, and a table: both say half of what is to be predicted."""
    generator = np.random.default_rng(0)
    numbers = generator.normal(size=(len(striped.targets), 1)).astype(np.float32)
    codes = generator.integers(1, 3, size=(len(striped.targets), 1))
    values = striped.targets + numbers[:, 0] + 2.0 * (codes[:, 0] == 2)
    train = striped.splits["train"]
    spec = replace(
        striped.spec,
        views=2,
        classes=(),
        class_counts=(),
        task="regression",
        target="price",
        target_mean=float(values[train].mean()),
        target_std=float(values[train].std()),
        numbers=("area",),
        number_means=(0.0,),
        number_stds=(1.0,),
        categories=("town",),
        category_values=(("A", "B"),),
    )
    pixels = np.stack([striped.pixels, striped.pixels[:, :, ::-1]], axis=1)
    (folder / "two-views").mkdir()
    np.save(folder / "two-views" / "parts.npy", np.zeros(len(values), dtype=np.int8))
    return replace(
        striped,
        spec=spec,
        pixels=pixels,
        targets=values.astype(np.float32),
        numbers=numbers,
        categories=codes,
        handle=DataHandle(folder=folder / "two-views", split_file=folder / "none.npz"),
    )


# Slow: three trainings of twelve epochs.
@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["fashion-small", "none"])
def test_both_branches_together_explain_more_than_either(
    backbone: str, striped: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHSTUDY_CACHE", str(tmp_path))
    data = houses_of_stripes(striped, tmp_path)
    monkeypatch.setattr(jobs, "open_data", lambda handle: data)
    scores = {}
    for branches in ("both", "image", "table"):
        config = {
            **space_of(MultiInput).recipe,
            "branches": branches,
            "backbone": backbone,
            "image_dropout": 0.2,
            "learning_rate": 0.02,
            "batch_size": 16,
        }
        job = replace(
            job_for(MultiInput, data, tmp_path / branches, config, epochs=12),
            objective=Objective(metric="r2", direction="maximize"),
        )
        outcome, _ = run_job(job)
        assert outcome.status is Status.COMPLETED, outcome.reason
        scores[branches] = outcome.metrics["valid_r2"]
    assert scores["both"] > max(scores["image"], scores["table"]) + 0.1
    assert min(scores.values()) > 0  # a constant has 0


def test_a_deployed_network_takes_images_and_answers_as_the_trained_one(
    striped: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHSTUDY_CACHE", str(tmp_path))
    data = houses_of_stripes(striped, tmp_path)
    monkeypatch.setattr(jobs, "open_data", lambda handle: data)
    job = replace(
        job_for(MultiInput, data, tmp_path / "run", epochs=1),
        objective=Objective(metric="r2", direction="maximize"),
    )
    outcome, _ = run_job(job)
    assert outcome.status is Status.COMPLETED, outcome.reason
    config = MultiInput()
    state, spec = jobs.deployed_state(tmp_path / "run", config, data.spec)
    network = config.deployed(spec)
    network.load_state_dict(state)
    rows = data.splits["valid"]
    assert data.numbers is not None
    assert data.categories is not None
    batch = Batch(
        config.preprocessing(spec)(torch.from_numpy(data.pixels[rows].copy())),
        torch.from_numpy(data.targets[rows]),
        torch.from_numpy(data.numbers[rows]),
        torch.from_numpy(data.categories[rows]),
    )
    with torch.inference_mode():
        found = config.predict(network.eval(), spec, batch)
    assert found is not None
    expected = np.load(tmp_path / "run" / "valid.npz")["value"]
    assert found.numpy() == pytest.approx(expected, abs=1e-4)


# Slow: 535 rows with four images each are decoded first.
@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "houses.tar").is_file(), reason="needs houses.tar")
def test_the_table_of_the_houses_explains_most_of_the_price(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHSTUDY_DATA", os.fspath(SHARED))
    data = prepare(
        Images(
            "houses",
            target="price",
            log_target=True,
            columns={"id": "ignore", "zipcode": "category"},
            size=32,
        ),
        seed=0,
    )
    scores = {}
    for branches in ("table", "both"):
        config = {**space_of(MultiInput).recipe, "branches": branches, "patience": 40}
        job = replace(
            job_for(MultiInput, data, tmp_path / branches, config, epochs=40),
            objective=Objective(metric="r2", direction="maximize"),
        )
        outcome, _ = run_job(job)
        assert outcome.status is Status.COMPLETED, outcome.reason
        scores[branches] = outcome.metrics["valid_r2"]
    assert scores["table"] > 0.6, scores
    assert scores["both"] > 0.5, scores


def test_the_network_is_one_module_with_named_branches() -> None:
    net = MultiInput(backbone="none").build(DATA)
    assert isinstance(net, BranchedNet)
    assert {name.split(".")[0] for name in net.state_dict()} == {"images", "table", "head"}
