"""Networks before they learn: dropout, as it is written and as a recipe has it."""

import numpy as np
import pytest

from cnn.architectures import ARCHITECTURES
from cnn.backend import mx
from cnn.hyperparameters import FromScratch
from cnn.models import fresh_model


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
