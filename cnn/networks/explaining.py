"""Networks that explain their answers: they also give their features, and what each position says."""

from typing import Any

from cnn.networks.architectures import NetworkConfig
from cnn.networks.running import Parameters, initialise, mirror, set_parameters
from cnn.support.backend import Network, mx


def explained(config: NetworkConfig, classes: int, values: Parameters) -> Network:
    """A backbone with a linear head that answers, and says why, on the CPU.

    It maps preprocessed images (n, 3, side, side) to their logits (n, classes), features (n, channels) and activations
    (n, classes, height, width): the logits that each position would have alone, whose mean is the answer (class
    activation mapping, Zhou et al. 2016, https://arxiv.org/abs/1512.04150). With ``mirrored_mean`` the activations are
    the mean for an image and, mirrored back, for its mirror image; the features are the image's own.
    """
    net = initialise(config.build(classes), config.preprocessing.crop, seed=0)
    set_parameters(net, values)
    side = config.preprocessing.crop
    channels, height, width = net.features(mx.nd.zeros((1, 3, side, side))).shape[1:]

    class Explained(mx.gluon.HybridBlock):  # here, as MXNet is imported at its first use only
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def hybrid_forward(self, F: Any, images: Any) -> Any:  # noqa: N803  (Gluon's name for arrays' or symbols' operators)
            def mean(maps: Any) -> Any:
                return F.flatten(F.Pooling(maps, global_pool=True, pool_type="avg", kernel=(1, 1)))

            def activate(maps: Any) -> Any:
                positions = F.reshape(F.transpose(maps, axes=(0, 2, 3, 1)), shape=(-1, channels, 1, 1))
                logits = F.reshape(self.net.output(positions), shape=(-1, height, width, classes))
                return F.transpose(logits, axes=(0, 3, 1, 2))

            maps = self.net.features(images)
            activations = activate(maps)
            if config.mirrored_mean:
                activations = (activations + mirror(F, activate(self.net.features(mirror(F, images))))) / 2
            return mean(activations), mean(maps), activations

    return Explained()
