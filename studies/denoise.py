"""Fashion-MNIST without its noise: how far convolutions get beyond a median filter.

PLACEHOLDER
"""

from torchstudy import Denoiser, Float, Images, Study

study = Study(
    data=Images("fashion-mnist", train=12_000, valid=4_000, select=4_000),
    families=[Denoiser],
    maximize="psnr",
    space={"noise": 0.3, "width": 16, "learning_rate": Float(1e-3, 3e-2, log=True)},
    trials=8,
    epochs=5,
    confirm=(1, 3),
    seed=0,
)
