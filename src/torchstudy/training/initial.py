"""How the weights of new layers begin."""

import torch
from torch import nn

WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d)
SMALL = 0.01  # spread of small-normal, as in the first convolutional networks (Krizhevsky 2012)


def initialise(module: nn.Module, init: str) -> None:
    """Draw the weights of every linear and convolutional layer anew, and set its bias to 0.

    `kaiming` (He et al. 2015, normal, fan-in, for ReLU), `xavier` (Glorot & Bengio 2010, uniform),
    `small-normal` (spread 0.01); `default` leaves what PyTorch drew.
    """
    if init == "default":
        return
    for layer in module.modules():
        if isinstance(layer, WEIGHTED):
            with torch.no_grad():
                _draw(layer.weight, init)
                if layer.bias is not None:
                    layer.bias.zero_()


def _draw(weight: torch.Tensor, init: str) -> None:
    if init == "kaiming":
        nn.init.kaiming_normal_(weight, nonlinearity="relu")
    elif init == "xavier":
        nn.init.xavier_uniform_(weight)
    else:
        nn.init.normal_(weight, std=SMALL)
