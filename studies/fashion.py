"""Fashion-MNIST with 12,000 training images: CNN, transfer from MobileNetV2, autoencoder probe.

Expect a CNN near 0.905, transfer near 0.875 and the probe near 0.845 (test accuracy on 10,000
images), in about 25 minutes on two busy cores. The data are the four idx files of Fashion-MNIST
(Debian: `apt-get install dataset-fashion-mnist`), else torchvision downloads them. MobileNetV2 sees
the images at 96 px; put ImageNet weights named below in a data folder, or set "Transfer.weights" to
"default" and torchvision downloads its own. The shipped backbone was trained on these very images
and is therefore refused here.
"""

from torchstudy import CNN, AutoencoderProbe, Float, Images, Study, Transfer

study = Study(
    data=Images("fashion-mnist", train=12_000, valid=4_000, select=4_000),
    families=[CNN, Transfer, AutoencoderProbe],
    maximize="accuracy",
    space={
        "learning_rate": Float(1e-3, 3e-2, log=True),
        "Transfer.backbone": "mobilenet_v2",
        "Transfer.weights": "mobilenet_v2_imagenet_int8deq.pth",
        "Transfer.input_size": 96,
    },
    trials=20,
    epochs=9,
    confirm=(1, 3),
    seed=0,
)
