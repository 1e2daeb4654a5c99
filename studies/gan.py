"""Fashion-MNIST from noise: images that a discriminator takes for real ones.

Expect a kernel distance near 0.22 and a coverage near 0.20 from the recipe (5 epochs, validation, 3
seeds: 0.206 to 0.228, and 0.201 to 0.207). An untrained generator has 7 to 52 and below 0.01, real
images 0 and 0.97. `generation_distance` is the mean over the last three epochs: 0.26 to 0.28, but
above 0.5 where one of the three is flagged, as the first epoch always was.

A training of the recipe takes about 70 seconds of processor time; four trials and six confirmations
were forecast to take 13 minutes on two busy cores. Losses of a GAN say little: look at the distance
and at the samples.
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
