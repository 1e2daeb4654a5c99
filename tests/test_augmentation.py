import colorsys
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from torchstudy import narrowing
from torchstudy.declaring import domains_of
from torchstudy.domains import Float
from torchstudy.errors import SpaceError
from torchstudy.training.augmentation import (
    Augmentation,
    Moves,
    recoloured,
    shifted,
    shifted_anywhere,
    warped,
    whole_shifts,
)

RARE = 1e-4  # a test of a distribution fails less than once in 10,000 seeds
EVERYTHING = Augmentation(
    crop=0.2,
    rotation=20.0,
    horizontal_flip=0.5,
    vertical_flip=0.5,
    brightness=0.3,
    contrast=0.3,
    saturation=0.3,
    hue=0.1,
)


@pytest.fixture(scope="module")
def transforms() -> ModuleType:
    """What augmentation is compared with; its import takes more than a second."""
    from torchvision import transforms

    return transforms


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(*shape: int, seed: int = 0) -> Tensor:
    """Noise without zeros, so that every pixel that was filled in can be told."""
    return torch.randint(1, 256, shape, dtype=torch.uint8, generator=seeded(seed))


def copies(image: Tensor, count: int) -> Tensor:
    return image.expand(count, *image.shape).clone()


def still(count: int) -> Moves:
    """No move at all."""
    return Moves(
        down=torch.zeros(count, dtype=torch.int64),
        right=torch.zeros(count, dtype=torch.int64),
        is_mirrored=torch.zeros(count, dtype=torch.bool),
        is_upside_down=torch.zeros(count, dtype=torch.bool),
        angle=torch.zeros(count),
    )


def some_moves(count: int, margin: int, seed: int = 0) -> Moves:
    generator = seeded(seed)
    return Moves(
        down=torch.randint(-margin, margin + 1, (count,), generator=generator),
        right=torch.randint(-margin, margin + 1, (count,), generator=generator),
        is_mirrored=torch.rand(count, generator=generator) < 0.5,
        is_upside_down=torch.rand(count, generator=generator) < 0.5,
        angle=torch.rand(count, generator=generator) * 360 - 180,
    )


def furthest(images: Tensor, others: Tensor) -> int:
    """The largest difference in grey levels."""
    return int((images.int() - others.int()).abs().max())


def assert_uniform(draws: Tensor, low: float, high: float) -> None:
    assert draws.min() >= low
    assert draws.max() <= high
    assert stats.kstest(draws.numpy(), stats.uniform(low, high - low).cdf).pvalue > RARE


# The hyperparameters


def test_nothing_varies_unless_a_study_opens_it() -> None:
    assert all(domain.size == 1 for domain in domains_of(Augmentation).values())
    assert not Augmentation().is_on


@pytest.mark.parametrize("name", domains_of(Augmentation))
def test_each_hyperparameter_can_be_opened_and_switches_augmentation_on(name: str) -> None:
    opened = narrowing.changed(domains_of(Augmentation)[name], Float(0.0, 0.5))
    assert not isinstance(opened, str), opened
    assert opened[0].extremes == (0.0, 0.5)
    assert not Augmentation(**{name: 0.0}).is_on
    assert Augmentation(**{name: 0.5}).is_on


@pytest.mark.parametrize(
    ("name", "highest"),
    [
        ("crop", 0.5),
        ("rotation", 180),
        ("horizontal_flip", 1),
        ("vertical_flip", 1),
        ("brightness", 1),
        ("contrast", 1),
        ("saturation", 1),
        ("hue", 0.5),
    ],
)
def test_values_outside_their_range_are_refused(name: str, highest: float) -> None:
    assert getattr(Augmentation(**{name: highest}), name) == highest
    for value in (-0.01, highest + 0.01, float("nan")):
        with pytest.raises(SpaceError) as refusal:
            Augmentation(**{name: value})
        assert refusal.value.problems == (f"{name} must be in [0, {highest}]",)


def test_every_problem_is_named_at_once() -> None:
    with pytest.raises(SpaceError) as refusal:
        Augmentation(crop=0.6, horizontal_flip=2.0, hue=-1.0)
    assert len(refusal.value.problems) == 3


# What every change keeps


def test_off_is_the_same_images_and_no_draw() -> None:
    images, generator = pictures(4, 3, 8, 8), seeded()
    state = generator.get_state()
    assert Augmentation()(images, generator) is images
    assert torch.equal(generator.get_state(), state)


def test_what_is_off_draws_nothing() -> None:
    generator, expected = seeded(), seeded()
    Augmentation(crop=0.25)(pictures(4, 3, 8, 8), generator)
    for _ in ("down", "right"):
        torch.randint(-2, 3, (4,), generator=expected)
    assert torch.equal(generator.get_state(), expected.get_state())


@pytest.mark.parametrize("shape", [(5, 1, 8, 8), (5, 3, 9, 6), (2, 4, 3, 7, 8), (1, 1, 1, 1)])
def test_shape_and_type_stay_and_the_given_images_are_not_written_to(shape: tuple[int]) -> None:
    images = pictures(*shape)
    for augmentation in (EVERYTHING, replace(EVERYTHING, rotation=0.0), Augmentation(contrast=1.0)):
        before = images.clone()
        result = augmentation(images, seeded())
        assert result.shape == images.shape
        assert result.dtype == torch.uint8
        assert torch.equal(images, before)


@pytest.mark.parametrize(
    "augmentation",
    [
        Augmentation(crop=0.25),
        Augmentation(rotation=90.0),
        Augmentation(brightness=0.5),
        Augmentation(contrast=0.5),
        Augmentation(saturation=0.5),
        Augmentation(hue=0.5),
    ],
    ids=lambda augmentation: next(n for n in domains_of(Augmentation) if getattr(augmentation, n)),
)
def test_each_image_of_a_batch_and_each_view_has_a_draw_of_its_own(
    augmentation: Augmentation,
) -> None:
    image = pictures(3, 12, 12)
    batch = augmentation(copies(image, 32), seeded())
    assert len(batch.unique(dim=0)) > 16  # 25 to 49 shifts are possible, else a continuum
    views = augmentation(copies(image, 32).view(8, 4, 3, 12, 12), seeded())
    assert torch.equal(views.flatten(0, 1), batch)


def test_a_generator_put_back_goes_on_with_the_same_bits() -> None:
    images, generator = pictures(6, 3, 10, 10), seeded(5)
    EVERYTHING(images, generator)
    state = generator.get_state()
    second = EVERYTHING(images, generator)
    third = EVERYTHING(images, generator)
    resumed = torch.Generator()
    resumed.set_state(state)
    assert torch.equal(EVERYTHING(images, resumed), second)
    assert torch.equal(EVERYTHING(images, resumed), third)
    assert not torch.equal(second, third)


def test_large_batches_are_changed_in_parts_like_single_images() -> None:
    images, moves = pictures(40, 3, 96, 96), some_moves(40, 9)
    factors = {name: torch.linspace(0.8, 1.2, 40) for name in ("contrast", "saturation")}
    whole = recoloured(warped(images, moves), factors)
    for place in (0, 13, 14, 39):  # 14 images of 96 x 96 are one part
        one = slice(place, place + 1)
        turned = warped(
            images[one],
            Moves(
                down=moves.down[one],
                right=moves.right[one],
                is_mirrored=moves.is_mirrored[one],
                is_upside_down=moves.is_upside_down[one],
                angle=moves.angle[one],
            ),
        )
        alone = recoloured(turned, {name: factor[one] for name, factor in factors.items()})
        assert furthest(whole[one], alone) <= 1  # sums may be taken in another order


# Flips


def test_flips_are_those_of_torchvision(transforms: ModuleType) -> None:
    images = pictures(5, 3, 7, 6)
    mirrored = Augmentation(horizontal_flip=1.0)(images, seeded())
    assert torch.equal(mirrored, transforms.functional.hflip(images))
    views = pictures(2, 4, 3, 7, 6)
    assert torch.equal(
        Augmentation(horizontal_flip=1.0)(views, seeded()), transforms.functional.hflip(views)
    )
    upside_down = Augmentation(vertical_flip=1.0)(images, seeded())
    assert torch.equal(upside_down, transforms.functional.vflip(images))


def test_flips_are_independent_and_as_frequent_as_asked() -> None:
    corners = torch.tensor([[[0, 1], [2, 3]]], dtype=torch.uint8)
    augmentation = Augmentation(horizontal_flip=0.5, vertical_flip=0.2)
    first = augmentation(copies(corners, 4000), seeded())[:, 0, 0, 0]
    counts = first.long().bincount(minlength=4)
    assert stats.chisquare(counts, [1600, 1600, 400, 400]).pvalue > RARE


# Crop


def test_crops_are_those_of_torchvision_and_all_equally_frequent(transforms: ModuleType) -> None:
    image = pictures(3, 8, 8)
    padded = transforms.functional.pad(image, 2)
    possible = {
        transforms.functional.crop(padded, top, left, 8, 8).numpy().tobytes(): (top, left)
        for top in range(5)
        for left in range(5)
    }
    found = [
        possible[crop.numpy().tobytes()]  # a KeyError where it is none of them
        for crop in Augmentation(crop=0.25)(copies(image, 5000), seeded())
    ]
    theirs = {transforms.RandomCrop.get_params(padded, (8, 8))[:2] for _ in range(1500)}
    assert set(found) == theirs  # 1,500 draws miss one of 25 once in 10**25
    assert stats.chisquare([found.count(place) for place in theirs]).pvalue > RARE


def test_each_side_is_shifted_by_its_own_share() -> None:
    image = torch.zeros(1, 8, 20, dtype=torch.uint8)
    image[0, 4, 10] = 255
    changed = Augmentation(crop=0.25)(copies(image, 500), seeded())
    rows, columns = changed[:, 0].nonzero()[:, 1:].unbind(dim=1)
    assert sorted(rows.unique().tolist()) == [2, 3, 4, 5, 6]
    assert sorted(columns.unique().tolist()) == list(range(5, 16))


@pytest.mark.parametrize("shape", [(60, 1, 28, 28), (60, 3, 7, 10), (3, 3, 96, 96), (5, 1, 1, 1)])
@pytest.mark.parametrize("margin", [0, 1, 4, 14])
def test_stretches_of_memory_are_the_windows_that_pixels_make(
    shape: tuple[int, int, int, int], margin: int
) -> None:
    images = pictures(*shape)
    for seed in range(3):
        moves = some_moves(len(images), margin, seed)
        assert torch.equal(shifted(images, moves), shifted_anywhere(images, moves))


def test_windows_are_cut_from_images_that_do_not_lie_in_one_piece() -> None:
    images = pictures(6, 8, 8, 3).permute(0, 3, 1, 2)
    moves = some_moves(6, 2)
    assert torch.equal(shifted(images, moves), shifted(images.contiguous(), moves))


def test_the_extreme_draws_are_the_extreme_shifts() -> None:
    for margin in range(1, 300):
        shares = np.array([0, 1 - 2**-24], dtype=np.float32)  # the bounds of torch.rand
        assert whole_shifts(shares, margin).tolist() == [-margin, margin]


# Rotation


@pytest.mark.parametrize("shape", [(3, 24, 24), (1, 21, 30)])
def test_rotations_are_those_of_torchvision(
    transforms: ModuleType, shape: tuple[int, int, int]
) -> None:
    angles = [0.0, 15.0, -40.0, 90.0, 137.5, 180.0]
    image = pictures(*shape)
    turned = warped(copies(image, 6), replace(still(6), angle=torch.tensor(angles)))
    for angle, ours in zip(angles, turned, strict=True):
        theirs = transforms.functional.rotate(image, angle, transforms.InterpolationMode.BILINEAR)
        assert furthest(ours, theirs) <= 1, angle  # where rounding falls the other way


def test_a_quarter_turn_is_exact() -> None:
    image = pictures(4, 3, 16, 16)
    turned = warped(image, replace(still(4), angle=torch.full((4,), 90.0)))
    assert torch.equal(turned, torch.rot90(image, dims=(2, 3)))


def test_angles_are_uniform_in_their_range() -> None:
    side = torch.arange(65.0) - 32
    spot = torch.exp(-((side[None] - 24) ** 2 + side[:, None] ** 2) / 8)
    image = (255 * spot).round().to(torch.uint8)[None]
    turned = Augmentation(rotation=30.0)(copies(image, 1000), seeded())[:, 0].double()
    x = (turned * side).sum(dim=(1, 2))
    y = (turned * side[:, None]).sum(dim=(1, 2))
    angles = torch.atan2(-y, x).rad2deg()
    assert_uniform(angles, -30.1, 30.1)  # pixels tell the angle to 0.1 degrees


def test_without_a_turn_the_warp_is_the_exact_copy() -> None:
    images, moves = pictures(50, 3, 11, 14), some_moves(50, 5)
    moves = replace(moves, angle=torch.zeros(50))
    assert torch.equal(warped(images, moves), shifted(images, moves))


def test_one_warp_is_crop_then_flips_then_rotation_of_torchvision(transforms: ModuleType) -> None:
    images = torch.zeros(30, 3, 30, 26, dtype=torch.uint8)
    images[:, :, 4:-4, 4:-4] = pictures(30, 3, 22, 18)  # so that a crop loses nothing
    moves = some_moves(30, 4)
    for place, ours in enumerate(warped(images, moves)):
        down, right = int(moves.down[place]), int(moves.right[place])
        theirs = transforms.functional.crop(
            transforms.functional.pad(images[place], 4), 4 + down, 4 + right, 30, 26
        )
        theirs = transforms.functional.hflip(theirs) if moves.is_mirrored[place] else theirs
        theirs = transforms.functional.vflip(theirs) if moves.is_upside_down[place] else theirs
        theirs = transforms.functional.rotate(
            theirs, float(moves.angle[place]), transforms.InterpolationMode.BILINEAR
        )
        assert furthest(ours, theirs) <= 1


# Colour


@pytest.mark.parametrize(
    ("name", "channels", "factors", "levels"),
    [
        ("brightness", 1, (0.0, 0.6, 1.0, 1.4, 2.0), 1),  # torchvision cuts decimals off
        ("brightness", 3, (0.0, 0.6, 1.0, 1.4, 2.0), 1),
        ("contrast", 1, (0.0, 0.6, 1.0, 1.4, 2.0), 1),
        ("contrast", 3, (0.0, 0.6, 1.0, 1.4, 2.0), 2),  # and also those of each grey
        ("saturation", 3, (0.0, 0.6, 1.0, 1.4, 2.0), 2),
        ("hue", 3, (-0.5, -0.2, 0.0, 0.07, 0.5), 1),
    ],
)
def test_colour_changes_are_those_of_torchvision(
    transforms: ModuleType, name: str, channels: int, factors: tuple[float, ...], levels: int
) -> None:
    image = pictures(channels, 40, 40)
    image[:, :10] = image[:1, :10]  # some greys
    adjust = getattr(transforms.functional, f"adjust_{name}")
    ours = recoloured(copies(image, len(factors)), {name: torch.tensor(factors)})
    for factor, changed in zip(factors, ours, strict=True):
        assert furthest(changed, adjust(image, factor)) <= levels, factor


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue"])
def test_the_neutral_factor_changes_no_level(name: str) -> None:
    images = pictures(4, 3, 16, 16)
    neutral = torch.full((4,), 0.0 if name == "hue" else 1.0)
    assert torch.equal(recoloured(images, {name: neutral}), images)


def test_saturation_and_hue_leave_grey_images_be_and_draw_nothing() -> None:
    images, generator = pictures(4, 1, 8, 8), seeded()
    state = generator.get_state()
    assert torch.equal(Augmentation(saturation=1.0, hue=0.5)(images, generator), images)
    assert torch.equal(generator.get_state(), state)


def test_brightness_factors_are_uniform() -> None:
    images = torch.full((2000, 1, 1, 1), 100, dtype=torch.uint8)
    levels = Augmentation(brightness=0.4)(images, seeded()).flatten()
    assert_uniform(levels / 100, 0.595, 1.405)  # half a level either way


def test_contrast_factors_are_uniform() -> None:
    image = torch.tensor([[[78, 178]]], dtype=torch.uint8)
    dark, light = Augmentation(contrast=0.4)(copies(image, 2000), seeded())[:, 0, 0].int().T
    assert_uniform((light - dark) / 100, 0.59, 1.41)


def test_saturation_factors_are_uniform() -> None:
    image = torch.tensor([150, 50, 50], dtype=torch.uint8).view(3, 1, 1)
    red, green, _ = Augmentation(saturation=0.4)(copies(image, 2000), seeded())[:, :, 0, 0].int().T
    assert_uniform((red - green) / 100, 0.59, 1.41)


def test_hue_turns_are_uniform() -> None:
    image = torch.tensor([0, 255, 255], dtype=torch.uint8).view(3, 1, 1)  # half way round
    changed = Augmentation(hue=0.25)(copies(image, 2000), seeded())[:, :, 0, 0] / 255
    hues = torch.tensor([colorsys.rgb_to_hsv(*colour)[0] for colour in changed.tolist()])
    assert_uniform(hues - 0.5, -0.251, 0.251)


def test_a_batch_has_one_order_of_colour_changes_and_batches_differ() -> None:
    colour = torch.tensor([200, 100, 50], dtype=torch.uint8).view(3, 1, 1)
    grey = 0.299 * 200 + 0.587 * 100 + 0.114 * 50
    augmentation, orders = Augmentation(contrast=0.3, hue=0.5), set()
    for seed in range(40):
        changed = augmentation(copies(colour, 64), seeded(seed)).flatten(1).float()
        highest, lowest = changed.amax(dim=1), changed.amin(dim=1)
        contrast = (highest - lowest) / 150
        # Contrast first moves all towards the grey of the colour as it was given.
        away = (highest - contrast * 200 - (1 - contrast) * grey).abs()
        orders.add("contrast first" if away.max() < 2 else "hue first")
        assert away.max() < 2 or away.mean() > 2
    assert orders == {"contrast first", "hue first"}  # 40 batches show one order in 2**39
