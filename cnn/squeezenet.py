"""SqueezeNet 1.1, the network that the hotdog flow starts from and that can be trained from scratch, too."""

from cnn.backend import Network, mx


def squeezenet(classes: int) -> Network:
    """SqueezeNet 1.1: (n, 3, side, side) to (n, classes); ``features`` and ``output`` are its two parts.

    The model zoo's, but for a last pooling that takes any side: at 224 px it computes the same. Iandola et al.
    2016, https://arxiv.org/abs/1602.07360; notebook, section "Transfer Learning".
    """
    nn = mx.gluon.nn
    net = mx.gluon.model_zoo.vision.squeezenet1_1(classes=classes)
    output = nn.HybridSequential(prefix="")
    output.add(net.output[0], net.output[1], nn.GlobalAvgPool2D(), nn.Flatten())
    net.output = output
    return net
