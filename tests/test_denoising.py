"""Denoiser and its measures: PSNR, SSIM, the median filter, and noise that is always the same."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.training_jobs import job_for, run_job, space_of
from torch import Tensor, nn

from torchstudy.analysis.tables import read_gallery
from torchstudy.data.dataset import ImageData
from torchstudy.data.spec import DataSpec
from torchstudy.errors import SpaceError, StudyError
from torchstudy.execution import job as jobs
from torchstudy.execution.exhibits import answers_path, gallery_path
from torchstudy.families.denoising import Denoiser
from torchstudy.fitting import instantiate
from torchstudy.models.saved import load_model, save_model
from torchstudy.records import Objective, Status
from torchstudy.study import Study
from torchstudy.training.batches import Batch, Split
from torchstudy.training.optim import TrainingConfig
from torchstudy.training.restoration import (
    median_filtered,
    psnr,
    restoration_metrics,
    similarity,
)

COLOUR = DataSpec(source="x", channels=3, height=13, width=17, classes=("a", "b"), num_train=99)
CLEARNESS = Objective(metric="psnr", direction="maximize")
QUICK = {"width": 8, "depth": 1, "batch_size": 16, "learning_rate": 0.01}
SHAPES = [(2, 1, 8, 8), (3, 3, 13, 17), (2, 1, 28, 28), (2, 1, 6, 6)]


def pair(shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Images in [0, 1], and the same with some noise."""
    generator = torch.Generator().manual_seed(0)
    clean = torch.rand(*shape, generator=generator)
    noisy = clean + 0.2 * torch.randn(*shape, generator=generator)
    return clean, noisy.clamp(0, 1)


# -- measures ----------------------------------------------------------------------------------


@pytest.mark.slow  # importing torchmetrics takes over two seconds
@pytest.mark.parametrize("shape", SHAPES)
def test_similarity_and_psnr_are_those_of_torchmetrics(shape: tuple[int, ...]) -> None:
    from torchmetrics.functional.image import (
        peak_signal_noise_ratio,
        structural_similarity_index_measure,
    )

    clean, noisy = pair(shape)
    expected = structural_similarity_index_measure(noisy, clean, data_range=1.0, reduction="none")
    assert similarity(noisy, clean).numpy() == pytest.approx(np.asarray(expected), abs=1e-5)
    error = float((noisy - clean).square().mean())
    reference = float(peak_signal_noise_ratio(noisy, clean, data_range=1.0))
    assert psnr(error) == pytest.approx(reference, rel=1e-5)


def test_similarity_is_one_for_equal_images_and_zero_like_for_opposite_ones() -> None:
    clean, noisy = pair((4, 1, 12, 12))
    assert similarity(clean, clean).tolist() == pytest.approx([1.0] * 4, abs=1e-6)
    assert (similarity(1 - clean, clean) < 0).all()
    assert similarity(noisy, clean).tolist() == pytest.approx(
        similarity(clean, noisy).tolist(), abs=1e-6
    )


def test_decibels_are_ten_for_every_factor_of_ten_and_finite_for_a_perfect_copy() -> None:
    assert psnr(1.0) == 0
    assert psnr(0.001) == pytest.approx(30)
    assert psnr(0.0) == pytest.approx(100)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 9), st.integers(2, 9), st.integers(0, 1000))
def test_the_median_filter_takes_the_median_of_nine(height: int, width: int, seed: int) -> None:
    images = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(seed))
    padded = np.pad(images.numpy(), [(0, 0), (0, 0), (1, 1), (1, 1)], mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    assert np.array_equal(median_filtered(images).numpy(), np.median(windows, axis=(4, 5)))


def test_restoration_metrics_are_of_the_whole_split_however_it_is_batched() -> None:
    clean, noisy = pair((7, 1, 9, 9))
    restored = (clean + noisy) / 2
    whole = restoration_metrics([(clean, noisy, restored)])
    parts = restoration_metrics(
        zip(*(images.split(3) for images in (clean, noisy, restored)), strict=True)
    )
    assert parts == pytest.approx(whole, rel=1e-6)
    error = float((restored - clean).square().mean())
    assert whole["loss"] == pytest.approx(error, rel=1e-5)
    assert whole["psnr"] == pytest.approx(psnr(error), abs=1e-4)
    assert whole["psnr_gain"] == pytest.approx(20 * np.log10(2), abs=1e-4)  # half the error
    median = float((median_filtered(noisy) - clean).square().mean())
    assert whole["median_psnr"] == pytest.approx(psnr(median), abs=1e-4)
    assert whole["noisy_ssim"] == pytest.approx(float(similarity(noisy, clean).mean()), abs=1e-6)
    assert whole["ssim"] == pytest.approx(float(similarity(restored, clean).mean()), abs=1e-6)


# -- the family --------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(
    size=st.tuples(st.integers(8, 29), st.integers(8, 29)),
    depth=st.integers(1, 3),
    channels=st.sampled_from([1, 3]),
    skips=st.booleans(),
)
def test_restored_images_have_the_shape_and_range_of_the_noisy_ones(
    size: tuple[int, int], depth: int, channels: int, skips: bool
) -> None:
    data = replace(COLOUR, channels=channels, height=size[0], width=size[1])
    net = Denoiser(depth=depth, width=4, skips=skips).build(data)
    noisy = torch.rand(2, channels, *size)
    restored = net(noisy)
    assert restored.shape == noisy.shape
    assert 0 <= restored.min().item() <= restored.max().item() <= 1
    restored.sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_skips_carry_detail_past_the_bottom() -> None:
    torch.manual_seed(0)
    for skips, differs in ((True, True), (False, False)):
        net = Denoiser(depth=1, width=4, skips=skips).build(COLOUR).eval()
        net.up[0][0].weight.data.zero_()  # nothing comes up from below
        one, two = net(torch.rand(1, 3, 13, 17)), net(torch.rand(1, 3, 13, 17))
        assert bool((one != two).any()) is differs


def test_scores_do_not_depend_on_the_size_of_batches_or_on_what_was_drawn_before(
    striped: ImageData,
) -> None:
    config = Denoiser(width=8, depth=1)
    net = config.build(striped.spec).eval()
    rows = striped.splits["valid"]
    split = Split.of(
        striped.pixels, rows, striped.targets[rows], config.preprocessing(striped.spec)
    )

    def metrics(batch_size: int) -> dict[str, float]:
        with torch.inference_mode():
            return config.score(net, striped.spec, split.in_order(batch_size))

    first = metrics(512)
    torch.rand(3)
    assert metrics(512) == first
    for batch_size in (1, 7):
        other = metrics(batch_size)
        assert other["noisy_psnr"] == pytest.approx(first["noisy_psnr"], rel=1e-9)
        assert other == pytest.approx(first, rel=1e-5)  # convolutions of other shapes round apart


def test_noise_is_gaussian_of_the_stated_spread_and_cut_off(striped: ImageData) -> None:
    config = Denoiser(noise=0.1)
    grey = Batch(torch.full((50, 1, 28, 28), 0.5), torch.zeros(50))
    noisy = config.pictures(nn.Identity(), grey)["noisy"]
    assert float(noisy.mean()) == pytest.approx(0.5, abs=0.003)  # 5 standard errors of 39,200
    assert float(noisy.std()) == pytest.approx(0.1, abs=0.002)
    black = Batch(torch.zeros(2, 1, 28, 28), torch.zeros(2))
    noisy = config.pictures(nn.Identity(), black)["noisy"]
    assert noisy.min().item() == 0
    assert not torch.equal(noisy[0], noisy[1])


def test_training_draws_new_noise_in_every_step_and_learns_nothing_from_targets() -> None:
    config = Denoiser(width=4, depth=1)
    (phase,) = config.phases(COLOUR, TrainingConfig())
    net = config.build(COLOUR)
    batch = Batch(torch.rand(4, 3, 13, 17), torch.zeros(4))
    torch.manual_seed(0)
    first, second = phase.loss(net, batch), phase.loss(net, batch)
    torch.manual_seed(0)
    assert phase.loss(net, replace(batch, targets=torch.ones(4))) == first
    assert first != second


def test_a_denoiser_learns_to_beat_the_noise_and_the_median_filter(
    striped: ImageData, tmp_path: Path
) -> None:
    config = space_of(Denoiser).recipe | QUICK
    job = replace(job_for(Denoiser, striped, tmp_path, config, epochs=15), objective=CLEARNESS)
    outcome, rows = run_job(job)
    assert outcome.status is Status.COMPLETED, outcome.reason
    assert {f"valid_{name}" for name in Denoiser.metrics} <= outcome.metrics.keys()
    assert outcome.metrics["select_psnr_gain"] > 1
    assert outcome.metrics["select_psnr"] > outcome.metrics["select_median_psnr"]
    assert len({row.metrics["noisy_psnr"] for row in rows}) == 1
    assert not answers_path(tmp_path, "valid").exists()
    gallery = read_gallery(gallery_path(tmp_path))
    assert list(gallery) == [0, 1, 2, 4, 8, 15]
    assert list(gallery[0]) == ["noisy", "restored", "clean"]
    assert np.array_equal(gallery[0]["noisy"], gallery[15]["noisy"])


def test_a_denoiser_comes_back_from_its_file_and_restores_the_same(
    striped: ImageData, tmp_path: Path
) -> None:
    config = space_of(Denoiser).recipe | QUICK
    run_job(job_for(Denoiser, striped, tmp_path / "run", config))
    instance = instantiate(Denoiser, config).family
    state, spec = jobs.deployed_state(tmp_path / "run", instance, striped.spec)
    folder = tmp_path / "model"
    save_model(folder, family=Denoiser, config=config, data=spec, state=state, metrics={})
    model = load_model(folder, [Denoiser])
    rows = striped.splits["valid"]
    places = torch.linspace(0, len(rows) - 1, 8).round().long().numpy()
    pixels = torch.from_numpy(np.array(striped.pixels[rows[places]]))
    shown = read_gallery(gallery_path(tmp_path / "run"))[2]
    for caption, images in model.pictures(pixels).items():
        found = images.mul(255).round().to(torch.uint8).numpy()
        assert np.abs(found.astype(int) - shown[caption]).max() <= 1, caption
    with pytest.raises(StudyError, match="Denoiser predicts nothing"):
        model.predict(pixels)


def test_images_too_small_for_the_window_or_the_depth_are_problems() -> None:
    small = replace(COLOUR, height=5, width=8)
    assert Denoiser(depth=2).problems(small) == [
        "structural similarity needs images of at least 6 px, but these have 5 x 8: raise the "
        "image size"
    ]
    (problem,) = Denoiser(depth=3).problems(replace(small, height=7))
    assert problem.startswith("depth=3 halves the image 3 times and needs at least 8 px")
    (problem,) = Denoiser().problems(replace(COLOUR, views=2))
    assert problem == "takes one image an item, but the data have 2; use MultiInput"


@pytest.mark.parametrize("noise", [0.0, -0.1, 1.5])
def test_noise_that_is_none_or_drowns_everything_is_refused(noise: float) -> None:
    with pytest.raises(SpaceError, match=f"noise must be above 0 and at most 1, not {noise:g}"):
        Denoiser(noise=noise)
    with pytest.raises(StudyError, match="noise must be above 0"):
        Study(data="digits", families=[Denoiser], maximize="psnr", space={"noise": noise})
