"""A noisy sine, one number in and one out: one hidden layer of tanh units can follow any curve.

Expect a test error of MLP between 0.95 and 1.10 times the variance of the noise, 0.04: nothing can
do better than 1, but for the luck of 1,000 test points (measured for five seeds: 0.95 to 1.06, mean
1.01; benchmarks/sine.py). The best straight line stays near 5 times that variance. One to two and a
half minutes on two cores.
"""

import numpy as np
import pandas as pd

from torchstudy import MLP, Float, Images, Int, LinearModel, Study

NOISE = 0.2  # standard deviation


def sine() -> pd.DataFrame:
    """2,400 points: x in one period, y its sine with normal noise."""
    generator = np.random.default_rng(0)
    x = generator.uniform(-np.pi, np.pi, size=2_400)
    return pd.DataFrame({"x": x, "y": np.sin(x) + NOISE * generator.normal(size=len(x))})


study = Study(
    data=Images(sine, target="y", train=600, valid=400, select=400, test=1_000),
    families=[MLP, LinearModel],
    minimize="mse",
    space={
        "MLP.depth": 1,
        "MLP.width": Int(16, 128, log=True, default=64),
        "MLP.activation": "tanh",
        "MLP.normalisation": "none",
        "MLP.dropout": 0.0,
        "learning_rate": Float(5e-3, 1e-1, log=True, default=2e-2),
        "optimizer": "adamw",
        "weight_decay": Float(1e-6, 1e-2, log=True, default=1e-4),
        "batch_size": 64,
        "patience": 120,
    },
    trials=8,
    epochs=120,
    seed=0,
)
