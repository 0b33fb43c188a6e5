"""How the built-in features are brought to one size."""

import numpy as np

from benchmarks.builtin_weights import resized
from cnn.architectures import squeezenet
from cnn.backend import mx
from cnn.networks import initialise, parameters, set_parameters


def test_resized_features_make_the_same_network() -> None:
    net = initialise(squeezenet(3), 64, [mx.cpu()], 0, mx.init.Xavier(magnitude=2.24))
    pictures = mx.nd.array(np.random.default_rng(0).standard_normal((2, 3, 64, 64)))
    features, outputs = net.features(pictures).asnumpy(), net(pictures).asnumpy()
    factors = np.linspace(0.1, 10, 512, dtype=np.float32)
    set_parameters(net, resized(parameters(net), factors))
    expected = features * factors[:, None, None]
    np.testing.assert_allclose(net.features(pictures).asnumpy(), expected, rtol=1e-4, atol=1e-6 * expected.max())
    np.testing.assert_allclose(net(pictures).asnumpy(), outputs, rtol=1e-4, atol=1e-6 * outputs.max())
    assert outputs.max() > 0
