"""Networks as a recipe has them: how much they drop while they learn, and what they answer with."""

import numpy as np
import pytest

from cnn.architectures import ARCHITECTURES
from cnn.backend import mx
from cnn.classifier import Classifier
from cnn.hyperparameters import FromScratch
from cnn.models import fresh_model
from cnn.networks import parameters


@pytest.mark.parametrize(("dropout", "share"), [(None, 0.3), (0.0, 0.0), (0.6, 0.6)])
def test_a_network_drops_what_its_recipe_says(
    dropout: float | None, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dropping(classes: int) -> object:
        net = mx.gluon.nn.HybridSequential()
        net.add(mx.gluon.nn.HybridSequential())
        net[0].add(mx.gluon.nn.Dropout(0.3))
        return net

    monkeypatch.setitem(ARCHITECTURES, "dropping", dropping)
    model = fresh_model(
        FromScratch(architecture="dropping", dropout=dropout), 2, [mx.cpu()], 0, np.zeros((1, 3, 10, 10), np.float32)
    )
    ones = mx.nd.ones((100, 3, 10, 10))
    with mx.autograd.record():
        learning = model.forward(ones).asnumpy()
    assert np.mean(learning == 0) == pytest.approx(share, abs=0.02)  # six standard errors
    np.testing.assert_array_equal(model.forward(ones).asnumpy(), 1)


@pytest.mark.parametrize("mirrored_mean", [False, True])
@pytest.mark.usefixtures("lenet")
def test_a_network_learns_from_the_picture_and_may_answer_with_the_mean_over_its_mirror_image(
    mirrored_mean: bool,
) -> None:
    settings = FromScratch(architecture="lenet", mirrored_mean=mirrored_mean)
    pictures = np.random.default_rng(0).random((4, 3, 32, 32), np.float32)
    model = fresh_model(settings, 2, [mx.cpu()], 0, pictures)
    plain, mirrored = (model.net(mx.nd.array(each)).asnumpy() for each in (pictures, pictures[..., ::-1]))
    assert np.abs(plain - mirrored).max() > 0.01
    with mx.autograd.record():
        np.testing.assert_array_equal(model.forward(mx.nd.array(pictures)).asnumpy(), plain)
    expected = (plain + mirrored) / 2 if mirrored_mean else plain
    np.testing.assert_allclose(model.predict(mx.nd.array(pictures)).asnumpy(), expected, atol=1e-6)
    classifier = Classifier.build(settings.design, parameters(model.net), ("a", "b"), [mx.cpu()])
    np.testing.assert_allclose(classifier.net(mx.nd.array(pictures)).asnumpy(), expected, atol=1e-6)
