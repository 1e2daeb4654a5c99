"""Transfer: frozen features, unfrozen blocks, heads, and the backbones that are refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.training_jobs import job_for, run_job, space_of, steady
from torch import nn

from torchstudy.data.dataset import ImageData
from torchstudy.data.spec import DataSpec
from torchstudy.execution import job as jobs
from torchstudy.execution.inputs import splits_of
from torchstudy.families import backbones
from torchstudy.families.backbones import registered_backbones
from torchstudy.families.heads import Neighbours, Standardise
from torchstudy.families.phases import Phase
from torchstudy.families.transfer import PartlyFrozen, Transfer
from torchstudy.records import Status
from torchstudy.study import Study
from torchstudy.training.batches import Batch
from torchstudy.training.optim import TrainingConfig, make_optimizer, set_learning_rate


@pytest.fixture(autouse=True)
def _own_backbones(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is registered here is handed to no worker of another test, which would import it."""
    monkeypatch.setattr(backbones, "_registered", {})


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
    assert steady(first) == steady(second)


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


# -- the head ----------------------------------------------------------------------------------


def test_a_heads_scale_is_that_of_the_training_features_and_stays(
    striped: ImageData, tmp_path: Path
) -> None:
    outcome, _ = run_job(job_for(Transfer, striped, tmp_path))
    assert outcome.status is Status.COMPLETED, outcome.reason
    splits, _ = splits_of(Transfer(), striped, ("train",))
    train = splits["train"]
    features = train.array[train.rows]
    saved = torch.load(tmp_path / jobs.WEIGHTS, weights_only=True)["state"]
    assert torch.allclose(saved["0.mean"], features.mean(dim=0), atol=1e-5)
    spread = features.std(dim=0, correction=0)
    assert torch.allclose(saved["0.spread"], spread.where(spread > 1e-6, 1.0), atol=1e-5)
    assert (spread <= 1e-6).any()  # features that are constant in training stay small elsewhere


def test_neighbours_vote_as_scikit_learn_has_them() -> None:
    from sklearn.neighbors import KNeighborsClassifier

    generator = torch.Generator().manual_seed(0)
    features = torch.randn(80, 5, generator=generator) * torch.tensor([1.0, 9.0, 1.0, 1.0, 0.1])
    targets = (features[:, 1] > 0).long() + (features[:, 0] > 1).long()
    data = DataSpec(
        source="x", channels=1, height=1, width=1, classes=("a", "b", "c"), num_train=80
    )
    model = Neighbours(replace(data, num_features=5), neighbours=7)
    model.fit(features, targets)
    shown = torch.randn(30, 5, generator=generator)
    scaled = Standardise(5)
    scaled.fit(features)
    reference = KNeighborsClassifier(7).fit(scaled(features).numpy(), targets.numpy())
    votes = torch.from_numpy(reference.predict_proba(scaled(shown).numpy())) * 7
    expected = (votes + 1 / 3) / 8
    assert torch.allclose(model(shown).softmax(dim=1).double(), expected, atol=1e-6)


def test_neighbours_of_numbers_are_averaged() -> None:
    data = DataSpec(
        source="x",
        channels=1,
        height=1,
        width=1,
        classes=(),
        num_train=4,
        num_features=1,
        task="regression",
    )
    model = Neighbours(data, neighbours=2)
    model.fit(torch.tensor([[0.0], [1.0], [2.0], [9.0]]), torch.tensor([5.0, 7.0, 9.0, 1.0]))
    assert model(torch.tensor([[0.4], [1.6]])).flatten().tolist() == [6.0, 8.0]


@pytest.mark.parametrize("head", ["network", "logistic", "neighbours"])
def test_every_head_learns_from_frozen_features(
    striped: ImageData, tmp_path: Path, head: str
) -> None:
    space, _ = space_of(Transfer).narrowed({"head": head, "batch_size": 16})
    config = space.recipe
    outcome, _ = run_job(job_for(Transfer, striped, tmp_path, config, epochs=4))
    assert outcome.status is Status.COMPLETED, outcome.reason
    assert outcome.metrics["valid_accuracy"] > 0.6  # chance is a third


# -- which blocks learn, and how fast ----------------------------------------------------------


def test_blocks_learn_slower_the_farther_they_are_from_the_head(striped: ImageData) -> None:
    family = Transfer(unfreeze=-1, layer_decay=0.5)
    net = family.build(striped.spec)
    assert isinstance(net, PartlyFrozen)
    (phase,) = (p for p in family.phases(striped.spec, TrainingConfig()) if p.name == "train")
    factors = phase.rate_factors(net)  # type: ignore[union-attr]
    by_name = {name: factors.get(p, 1.0) for name, p in net.named_parameters() if p.requires_grad}
    assert by_name["backbone.stages.2.0.weight"] == 0.5
    assert by_name["backbone.stages.1.0.weight"] == 0.25
    assert by_name["backbone.stages.0.0.weight"] == 0.125
    assert {factor for name, factor in by_name.items() if name.startswith("head")} == {1.0}
    optimizer = make_optimizer(net.parameters(), TrainingConfig(), factors)
    set_learning_rate(optimizer, 0.8)
    assert {group["lr"] for group in optimizer.param_groups} == {0.8, 0.4, 0.2, 0.1}


@pytest.mark.parametrize(
    ("family", "problem"),
    [
        (Transfer(layer_decay=0.0), "layer_decay must be above 0 and at most 1, not 0"),
        (Transfer(unfreeze=-2), "unfreeze is a number of blocks, or -1 for all; not -2"),
    ],
)
def test_values_that_cannot_be_are_problems(
    striped: ImageData, family: Transfer, problem: str
) -> None:
    assert family.problems(striped.spec) == (problem,)


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
def test_torchvision_networks_get_a_new_head_and_train_their_last_block(
    name: str, last: str
) -> None:
    """Slow: torchvision takes seconds to import and these networks have millions of weights."""
    from torchstudy import register_backbone
    from torchstudy.families.backbones import find_backbone, last_blocks

    network = find_backbone(name, "default").architecture()
    assert last_blocks(network, 1)[0] is network.get_submodule(last)
    assert len(last_blocks(network, 2)) > len(last_blocks(network, 1))
    untrained = register_backbone(f"untrained-{name}", lambda: network)
    data = DataSpec(
        source="x", channels=3, height=224, width=224, classes=("ant", "bee"), num_train=4
    )
    family = Transfer(backbone=untrained, unfreeze=1)
    assert family.problems(data) == ()
    model = family.build(data)
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    batch = Batch(images, torch.tensor([0, 1]))
    (step,) = (p for p in family.phases(data, TrainingConfig()) if isinstance(p, Phase))
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    optimizer = make_optimizer(step.parameters(model), TrainingConfig(weight_decay=0.0))
    step.loss(model.train(), batch).backward()
    optimizer.step()
    changed = {key for key, value in model.named_parameters() if (value != before[key]).any()}
    assert {"head.2.weight", "head.2.bias"} <= changed
    assert any(key.startswith(f"backbone.{last}") for key in changed)
    learning = {id(p) for block in last_blocks(network, 1) for p in block.parameters()}
    frozen = {k for k, p in model.named_parameters() if k[0] == "b" and id(p) not in learning}
    assert frozen
    assert not frozen & changed
