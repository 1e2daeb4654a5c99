"""Fashion-MNIST in two numbers: a map of clothes, and half the error of two principal components.

PLACEHOLDER
"""

from torchstudy import Autoencoder, Images, Study

study = Study(
    data=Images("fashion-mnist", train=12_000, valid=4_000, select=4_000),
    families=[Autoencoder],
    minimize="reconstruction_error",
    space={"code": 2},
    trials=8,
    epochs=20,
    confirm=(1, 3),
    seed=0,
)
