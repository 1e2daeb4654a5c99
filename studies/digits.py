"""Handwritten digits, 8 x 8: a first look at five families, in about three minutes on two cores.

Expect a CNN near 0.99, transfer from the shipped backbone near 0.98, dense layers near 0.97 beside
logistic regression on the pixels at 0.96, and the probe on a small code above 0.90 (test accuracy;
one of the 270 test images is 0.4 points). At this size an untrained
backbone does nearly as well as a pretrained one: no claim that pre-training helps here.
"""

from torchstudy import CNN, MLP, AutoencoderProbe, LinearModel, Study, Transfer

study = Study(
    data="digits",
    families=[CNN, Transfer, MLP, LinearModel, AutoencoderProbe],
    maximize="accuracy",
    space={"AutoencoderProbe.code": 16},
    trials=12,
    epochs=27,
    seed=0,
)
