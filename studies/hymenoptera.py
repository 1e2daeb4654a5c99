"""Ants or bees? 397 photographs at 224 px: what a pretrained backbone is worth on few images.

Expect transfer from MobileNetV2 near 0.94 and a CNN from scratch below 0.80 (test accuracy on the
153 images of `val`; one image is 0.7 points), in about half an hour on two cores. Put
`hymenoptera_256.tar` (or the unpacked folder) and the weights named below in a data folder
($TORCHSTUDY_DATA), or set "Transfer.weights" to "default" and torchvision downloads its own.
"""

from torchstudy import CNN, Float, Images, Int, Study, Transfer

study = Study(
    data=Images("hymenoptera_256", size=224),
    families=[CNN, Transfer],
    maximize="accuracy",
    space={
        "learning_rate": Float(3e-4, 3e-2, log=True),
        "batch_size": Int(16, 64, log=True),
        "CNN.width": Int(8, 16, log=True),
        "CNN.depth": Int(2, 4),
        "CNN.horizontal_flip": 0.5,
        "CNN.crop": Float(0.0, 0.15),
        "CNN.brightness": Float(0.0, 0.4),
        "Transfer.backbone": "mobilenet_v2",
        "Transfer.weights": "mobilenet_v2_imagenet_int8deq.pth",
    },
    trials=12,
    epochs=18,
    confirm=(3, 5),
    seed=0,
)
