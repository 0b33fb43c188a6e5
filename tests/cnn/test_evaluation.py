"""A classifier's answers, and which of them count."""

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import accuracy_score

from cnn.backend import mx
from cnn.classifier import Classifier
from cnn.evaluation import Predictions
from cnn.networks import initialise
from cnn.pictures import Input, to_tensor


@given(st.sets(st.integers(0, 9), max_size=9))
def test_figures_without_some_pictures_are_those_of_the_others(left_out: set[int]) -> None:
    chance = np.random.default_rng(0)
    labels, probabilities = chance.integers(0, 3, 10), chance.dirichlet(np.ones(3), 10).astype(np.float32)
    answers = Predictions([f"id{n}" for n in range(10)], [f"name{n}" for n in range(10)], labels, probabilities)
    others = [number for number in range(10) if number not in left_out]
    found = answers.without({f"id{number}" for number in left_out})
    assert list(found.ids) == [f"id{number}" for number in others]
    assert list(found.names) == [f"name{number}" for number in others]
    assert found.scores(None)["pictures"] == len(others)
    assert found.scores(None)["accuracy"] == accuracy_score(labels[others], probabilities[others].argmax(1))


def test_pictures_larger_than_photos_are_answered_one_by_one(lenet: Callable[[int], Any]) -> None:
    given_ = Input.whole(1000)  # 16 photos have fewer pixels
    net = initialise(lenet(2), given_.crop, [mx.cpu()], seed=0)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (1000, 1000, 3), np.uint8))
    (answer,) = Classifier(net, ("a", "b"), given_, [mx.cpu()]).answers([picture])
    outputs = net(mx.nd.array(to_tensor([picture], given_))).asnumpy()[0]
    np.testing.assert_allclose(np.log(answer[0] / answer[1]), outputs[0] - outputs[1], rtol=1e-3, atol=1e-4)
