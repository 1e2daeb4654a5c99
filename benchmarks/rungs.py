"""The loops that step_speed.py compares: from a textbook's to the product's own."""

import functools
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch
from machine import seconds_of
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from torchstudy import GAN, DataSpec, Family
from torchstudy.data.fashion import CLASSES, IMAGES, LABELS, read_idx
from torchstudy.families.phases import Phase
from torchstudy.files import find_in_data_folders
from torchstudy.models.costs import costs_of
from torchstudy.records import Objective
from torchstudy.training.batches import Batch, Preprocessing, Split
from torchstudy.training.checkpoint import Standing
from torchstudy.training.clock import Clock
from torchstudy.training.compute import Compute, compute_for
from torchstudy.training.lesson import Lesson
from torchstudy.training.optim import TrainingConfig, make_optimizer
from torchstudy.training.steps import gradient_steps

SIDE, EPOCH = 28, 12_000
RUNGS = (
    "textbook",
    "gather",
    "channels last",
    "malloc",
    "pool first, fused",
    "bfloat16",
    "product",
)
TEXTBOOK, GATHERED, CHANNELS_LAST, MALLOC, FUSED, BF16, PRODUCT = range(len(RUNGS))
SPEC = DataSpec(
    source="fashion-mnist",
    channels=1,
    height=SIDE,
    width=SIDE,
    classes=CLASSES,
    num_train=EPOCH,
    mean=(0.286,),
    std=(0.353,),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Net:
    """A network, how it is trained, and how many steps a measurement has."""

    family: Family
    steps: int = 94  # as many as 12,000 images have
    batch: int = 128
    optimizer: str = "adamw"

    @property
    def config(self) -> TrainingConfig:
        """The shared hyperparameters."""
        return TrainingConfig(batch_size=self.batch, optimizer=self.optimizer, learning_rate=1e-3)

    @property
    def work(self) -> float:
        """Operations of the forward pass of a batch, as a study counts them."""
        return costs_of(self.family, SPEC, with_latency=False)["flops"] * self.batch


class Pictures(Dataset[tuple[Tensor, int]]):
    """PIL images made of an array one by one, as torchvision's data sets do."""

    def __init__(self, count: int, preprocessing: Preprocessing) -> None:
        pixels, self.labels = images(count)
        self.pixels = torch.from_numpy(pixels)
        normalised = transforms.Normalize(preprocessing.mean, preprocessing.std)
        self.transform = transforms.Compose([transforms.ToTensor(), normalised])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        picture = Image.fromarray(self.pixels[index, 0].numpy())
        return self.transform(picture), int(self.labels[index])


@functools.cache
def images(count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The first training images (count, 1, 28, 28) and their classes; noise without the files."""
    folder = find_in_data_folders("fashion-mnist")
    if folder is None:
        generator = np.random.default_rng(0)
        pixels = generator.integers(0, 256, (count, 1, SIDE, SIDE), dtype=np.uint8)
        return pixels, np.arange(count) % len(CLASSES)
    pixels, labels = (
        read_idx(folder / name, dimensions=dimensions)
        for name, dimensions in ((IMAGES[0], 3), (LABELS[0], 1))
    )
    return pixels[:count, None].copy(), labels[:count].astype(np.int64)


def split_of(family: Family, count: int) -> Split:
    """The first training images as the family's network takes them."""
    pixels, labels = images(count)
    return Split.of(pixels, np.arange(count), labels, family.preprocessing(SPEC))


def product_epoch(net: Net, compute: Compute) -> Callable[[], object]:
    """An epoch of `gradient_steps` on so many batches, ready to be called."""
    split = split_of(net.family, net.steps * net.batch)
    lesson = Lesson(
        build=lambda: net.family.build(SPEC),
        phases=net.family.phases(SPEC, net.config),
        config=net.config,
        train=split,
        valid=split,
        score=lambda model, part: net.family.score(model, SPEC, part.in_order()),
        objective=Objective(metric="loss", direction="minimize"),
        epochs=1000,
        seed=0,
        compute=compute,
    )
    model = lesson.build().to(memory_format=torch.channels_last)
    optimizers = {
        phase.name: make_optimizer(phase.parameters(model), net.config)
        for phase in lesson.phases
        if isinstance(phase, Phase)
    }
    standing = Standing(model=model, optimizers=optimizers, shuffle=torch.Generator())
    return lambda: gradient_steps(lesson, standing, 1, lambda: False, Clock())


def plain_epoch(net: Net, level: int) -> Callable[[], object]:
    """An epoch of a loop that has climbed to this rung, ready to be called."""
    model = net.family.build(SPEC).train()
    if level < FUSED:
        as_in_textbooks(model)
    if level >= CHANNELS_LAST:
        model.to(memory_format=torch.channels_last)
    batches = batches_of(net, level)
    step_of = adversarial_step if isinstance(net.family, GAN) else ordinary_step
    step = step_of(net, model, level)
    return lambda: sum(step(inputs, targets) for inputs, targets in batches())


def as_in_textbooks(model: nn.Module) -> None:
    """Activations before pooling, and none in place: the same function."""
    for part in model.modules():
        if isinstance(part, nn.ReLU | nn.LeakyReLU):
            part.inplace = False
        if isinstance(part, nn.Sequential):
            for place in range(len(part) - 1):
                if isinstance(part[place], nn.MaxPool2d) and isinstance(part[place + 1], nn.ReLU):
                    part[place], part[place + 1] = part[place + 1], part[place]


def batches_of(net: Net, level: int) -> Callable[[], Iterable[tuple[Tensor, Tensor]]]:
    """What gives the batches of one epoch."""
    count = net.steps * net.batch
    if level < GATHERED:
        pictures = Pictures(count, net.family.preprocessing(SPEC))
        loader = DataLoader(pictures, batch_size=net.batch, shuffle=True)
        return lambda: loader
    split, generator = split_of(net.family, count), torch.Generator()
    return lambda: ((b.inputs, b.targets) for b in split.shuffled(net.batch, generator))


def ordinary_step(net: Net, model: nn.Module, level: int) -> Callable[[Tensor, Tensor], float]:
    """A step on the loss of the family's one phase."""
    (phase,) = net.family.phases(SPEC, net.config)
    assert isinstance(phase, Phase)
    optimizer = optimizer_of(net, model, level)

    def step(inputs: Tensor, targets: Tensor) -> float:
        optimizer.zero_grad()
        with casting(level):
            loss = phase.loss(model, Batch(inputs, targets))
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def adversarial_step(net: Net, model: nn.Module, level: int) -> Callable[[Tensor, Tensor], float]:
    """A step of each network: https://docs.pytorch.org/tutorials/beginner/dcgan_faces_tutorial."""
    judge, maker = model.discriminator, model.generator
    optimizers = [optimizer_of(net, network, level) for network in (judge, maker)]

    def loss_of(pictures: Tensor, wanted: float) -> Tensor:
        with casting(level):
            logits = judge(pictures)
            return binary_cross_entropy_with_logits(logits, torch.full_like(logits, wanted))

    def step(inputs: Tensor, targets: Tensor) -> float:
        optimizers[0].zero_grad()
        real = loss_of(inputs, 1.0)
        real.backward()
        with casting(level):
            made = maker(torch.randn(len(inputs), model.latent, 1, 1))
        false = loss_of(made.detach(), 0.0)
        false.backward()
        optimizers[0].step()
        optimizers[1].zero_grad()
        taken = loss_of(made, 1.0)
        taken.backward()
        optimizers[1].step()
        return real.item() + false.item() + taken.item()

    return step


def optimizer_of(net: Net, network: nn.Module, level: int) -> torch.optim.Optimizer:
    """Adam as it comes, or the product's."""
    if level < FUSED:
        return torch.optim.Adam(network.parameters(), lr=net.config.learning_rate)
    return make_optimizer(network.parameters(), net.config)


def casting(level: int) -> AbstractContextManager[object]:
    """Around the forward pass and the loss."""
    return torch.autocast("cpu", torch.bfloat16) if level >= BF16 else nullcontext()


def rung_epoch(net: Net, level: int) -> Callable[[], object]:
    """An epoch of a rung, ready to be called; the product chooses its own precision."""
    if level == PRODUCT:
        return product_epoch(net, compute_for("auto", "cpu", net.work))
    return plain_epoch(net, level)


@functools.cache
def prepared(net: Net, level: int) -> Callable[[], object]:
    """The epoch of a rung, after two steps that load what is loaded on use."""
    rung_epoch(replace(net, steps=2), level)()
    return rung_epoch(net, level)


def milliseconds(net: Net, level: int) -> tuple[float, float]:
    """Processor and wall time of a step, over one epoch."""
    used, wall = seconds_of(prepared(net, level))
    return used / net.steps * 1000, wall / net.steps * 1000
