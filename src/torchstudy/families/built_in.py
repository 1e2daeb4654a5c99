"""The families that come with the package."""

from torchstudy.families.autoencoder import AutoencoderProbe
from torchstudy.families.base import Family
from torchstudy.families.cnn import CNN
from torchstudy.families.compression import Autoencoder
from torchstudy.families.denoising import Denoiser
from torchstudy.families.gan import GAN
from torchstudy.families.linear import LinearModel
from torchstudy.families.mlp import MLP
from torchstudy.families.multi_input import MultiInput
from torchstudy.families.pretraining import PretrainedEncoder
from torchstudy.families.transfer import Transfer

BUILT_IN: tuple[type[Family], ...] = (
    LinearModel,
    MLP,
    CNN,
    Transfer,
    MultiInput,
    AutoencoderProbe,
    PretrainedEncoder,
    Autoencoder,
    Denoiser,
    GAN,
)
