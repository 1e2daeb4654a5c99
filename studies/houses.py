"""What is a house worth? 535 houses: four photographs each, and a table with size and zipcode.

Expect R2 of the log price near 0.79 for MLP on the table, a little less for ridge regression
(LinearModel), and no gain from the photographs: MultiInput with both branches is as good as the
table, four views alone reach about 0.50. Photographs tell where a house stands, and so does the
zipcode; with "zipcode": "ignore" the table alone falls to about 0.50 and both together reach about
0.60 (benchmarks/houses.py, 5 folds). The test has 80 houses, so one study may be 0.05 off. About a
quarter of an hour on two cores, a few minutes of it for the features of 2,140 photographs, once.
Put `houses.tar` and the weights named below in a data folder ($TORCHSTUDY_DATA), or set
"MultiInput.weights" to "default" and torchvision downloads its own.
"""

from torchstudy import MLP, Float, Images, Int, LinearModel, MultiInput, Study

study = Study(
    data=Images(
        "houses",
        target="price",
        log_target=True,
        columns={"id": "ignore", "zipcode": "category"},
        size=128,
    ),
    families=[MultiInput, MLP, LinearModel],
    maximize="r2",
    space={
        "MultiInput.backbone": "mobilenet_v2",
        "MultiInput.weights": "mobilenet_v2_imagenet_int8deq.pth",
        "MultiInput.input_size": 224,
        "learning_rate": Float(1e-3, 1e-2, log=True),
        "batch_size": Int(16, 64, log=True, default=32),
        "optimizer": "adamw",
        "patience": 60,
    },
    trials=12,
    epochs=60,
    confirm=(3, 5),
    seed=0,
)
