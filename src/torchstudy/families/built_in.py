"""The families that come with the package."""

from torchstudy.families.autoencoder import AutoencoderProbe
from torchstudy.families.base import Family
from torchstudy.families.cnn import CNN
from torchstudy.families.transfer import Transfer

BUILT_IN: tuple[type[Family], ...] = (CNN, Transfer, AutoencoderProbe)
