"""Fashion-MNIST from noise: images that a discriminator takes for real ones.

PLACEHOLDER
"""

from torchstudy import GAN, Float, Images, Study

study = Study(
    data=Images("fashion-mnist", train=12_000, valid=2_000, select=2_000, test=2_000),
    families=[GAN],
    minimize="generation_distance",
    space={"learning_rate": Float(2e-4, 2e-3, log=True), "width": 32, "discriminator_width": 32},
    trials=4,
    epochs=5,
    confirm=(1, 3),
    seed=0,
)
