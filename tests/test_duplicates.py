import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from torchstudy.data.duplicates import connected, duplicate_groups
from torchstudy.data.pictures import plain, summary

SHARED = Path(__file__).parents[1].parent / "shared" / "data"


def scenes(count: int, size: int = 96) -> list[Image.Image]:
    """Smooth random colour pictures, as different from each other as photographs."""
    rng = np.random.default_rng(3)
    small = rng.integers(0, 256, (count, 12, 12, 3), dtype=np.uint8)
    return [
        Image.fromarray(values).resize((size, size), Image.Resampling.BICUBIC) for values in small
    ]


def saved_again(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert(image.mode)


def shrunk(image: Image.Image, factor: float) -> Image.Image:
    size = (round(image.width * factor), round(image.height * factor))
    return image.resize(size, Image.Resampling.BILINEAR)


def groups_of(images: list[Image.Image]) -> np.ndarray:
    seen = [summary(image) for image in images]
    hashes = np.array([one.item_hash for one in seen], dtype=np.uint64)
    return duplicate_groups(hashes, np.stack([one.thumb for one in seen])).groups


def test_different_pictures_are_groups_of_their_own() -> None:
    assert groups_of(scenes(300)).tolist() == list(range(300))


def test_the_same_pixels_are_one_group_named_by_the_lowest_item() -> None:
    images = scenes(5)
    assert groups_of([*images, images[3], images[1]]).tolist() == [0, 1, 2, 3, 4, 3, 1]


def test_copies_saved_again_or_shrunk_are_found() -> None:
    images = scenes(60)
    copies = [saved_again(image, 70) for image in images]
    smaller = [shrunk(image, 0.9) for image in images]
    groups = groups_of([*images, *copies, *smaller])
    assert groups.tolist() == [*range(60)] * 3


def test_pictures_that_differ_in_colour_alone_are_not_copies() -> None:
    red = Image.new("RGB", (8, 8), (200, 0, 0))
    level = plain(red).convert("L").getpixel((0, 0))
    grey = Image.new("RGB", (8, 8), (level, level, level))
    assert summary(red).item_hash == summary(grey).item_hash
    assert groups_of([red, grey, red]).tolist() == [0, 1, 0]


def test_flat_pictures_of_nearly_the_same_shade_are_not_copies() -> None:
    assert groups_of([Image.new("L", (8, 8), shade) for shade in range(256)]).tolist() == [
        *range(256)
    ]


def test_small_shapes_of_one_kind_are_not_chained_together() -> None:
    rng = np.random.default_rng(0)
    shapes = []
    for _ in range(500):
        values = np.zeros((28, 28), np.uint8)
        top, left, height, width = rng.integers([2, 2, 8, 8], [8, 8, 18, 18])
        values[top : top + height, left : left + width] = rng.integers(90, 256)
        values = np.clip(values + rng.normal(0, 12, values.shape) * (values > 0), 0, 255)
        shapes.append(Image.fromarray(values.astype(np.uint8)).filter(ImageFilter.SMOOTH))
    sizes = np.unique(groups_of(shapes), return_counts=True)[1]
    assert sizes.max() <= 5
    assert sizes[sizes > 1].sum() <= 50


def test_one_scene_seen_by_one_camera_many_times_is_not_one_group() -> None:
    scene = np.asarray(scenes(1)[0])
    seen = []
    for number in range(60):
        pixels = scene.copy()
        pixels[number : number + 3, 40:43] = 255  # a small defect somewhere
        seen.append(summary(Image.fromarray(pixels)))
    seen.append(seen[7])
    hashes = np.array([one.item_hash for one in seen], dtype=np.uint64)
    groups, alike = duplicate_groups(hashes, np.stack([one.thumb for one in seen]))
    assert groups.tolist() == [*range(60), 7]
    assert alike == 61


def test_many_equal_items_cost_no_quadratic_work() -> None:
    hashes = np.repeat(np.arange(2, dtype=np.uint64), 50_000)
    thumbs = np.repeat(np.random.default_rng(0).integers(0, 256, (2, 304), np.uint8), 50_000, 0)
    assert np.unique(duplicate_groups(hashes, thumbs).groups).tolist() == [0, 50_000]


def test_no_images_and_one_image_are_fine() -> None:
    for count in (0, 1):
        found = duplicate_groups(np.zeros(count, np.uint64), np.zeros((count, 304), np.uint8))
        assert found.groups.tolist() == list(range(count))


def test_connected_nodes_are_named_by_the_lowest() -> None:
    left, right = np.array([5, 3, 7, 4]), np.array([3, 4, 8, 9])
    assert connected(10, left, right).tolist() == [0, 1, 2, 3, 3, 3, 6, 7, 7, 3]


def test_connected_agrees_with_a_plain_search_on_random_graphs() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        left, right = rng.integers(0, 40, (2, 25))
        expected = list(range(40))
        for _ in range(40):
            for one, other in zip(left, right, strict=True):
                expected[one] = expected[other] = min(expected[one], expected[other])
        assert connected(40, left, right).tolist() == expected


@pytest.mark.slow  # decodes and encodes 397 photographs
def test_photographs_saved_again_or_shrunk_are_found_and_no_others() -> None:
    archive = SHARED / "hymenoptera_256.tar"
    if not archive.exists():
        pytest.skip(f"needs the photographs in {archive.name}")
    with tarfile.open(archive) as tar:
        files = [tar.extractfile(member) for member in tar if member.name.endswith(".jpg")]
        images = [plain(Image.open(io.BytesIO(file.read()))) for file in files if file]
    assert groups_of(images).tolist() == [*range(len(images))]
    for copies in (
        [saved_again(image, 70) for image in images],
        [shrunk(image, 0.9) for image in images],
        [saved_again(shrunk(image, 0.9), 70) for image in images],
    ):
        assert groups_of([*images, *copies]).tolist() == [*range(len(images))] * 2
