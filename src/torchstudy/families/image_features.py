"""What a fixed network sees in images, so that generated ones can be compared with real ones."""

import functools

import torch
from torch import Tensor, nn

from torchstudy.families.backbones import SHIPPED, SmallBackbone, find_backbone

FEATURE_BATCH = 128  # images at a time: twice as fast as 512, whose maps leave the cache


def image_features(images: Tensor) -> Tensor:
    """Features (items, 512) of images (items, channels, height, width) in [0, 1].

    They are those of the shipped backbone before its last ReLU: after it most are 0 and their
    spread says little. Colours are averaged, and images are scaled to 28 px.
    """
    normalise = find_backbone(SHIPPED, "default").preprocessing
    network = _feature_network().to(images.device)
    with torch.inference_mode():
        grey = (images.mean(dim=1, keepdim=True) - normalise.mean[0]) / normalise.std[0]
        return torch.cat([network(part) for part in torch.split(grey, FEATURE_BATCH)])


@functools.cache
def _feature_network() -> nn.Module:
    """The shipped backbone without its last ReLU. Making it draws nothing from torch's generator.

    It is made once in a process: draws would differ between the first scoring and the others.
    """
    with torch.random.fork_rng(devices=[]):
        network = find_backbone(SHIPPED, "default").build().eval()
    assert isinstance(network, SmallBackbone)
    *others, last = network.stages
    assert isinstance(last, nn.Sequential)
    network.stages = nn.Sequential(*others, last[:-1])
    return network.to(memory_format=torch.channels_last)
