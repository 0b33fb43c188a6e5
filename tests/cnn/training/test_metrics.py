"""Metrics against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from cnn.support.errors import UserError
from cnn.training.metrics import confusion_matrix, positive_class, scores

PREDICTIONS = st.integers(2, 5).flatmap(
    lambda classes: st.tuples(
        st.just(classes),
        st.lists(st.tuples(st.integers(0, classes - 1), st.integers(0, classes - 1)), min_size=1, max_size=60),
    )
)


@settings(deadline=None, max_examples=40)
@given(PREDICTIONS)
def test_scores_are_scikit_learns(case: tuple[int, list[tuple[int, int]]]) -> None:
    classes, pairs = case
    truth, predicted = np.array(pairs).T
    every = range(classes)
    confusion = confusion_matrix(truth, predicted, classes)
    np.testing.assert_array_equal(confusion, oracle.confusion_matrix(truth, predicted, labels=every))
    for positive in (None, *every):
        labels = list(every) if positive is None else [positive]
        found = scores(confusion, positive)
        options = {"labels": labels, "average": "macro", "zero_division": 0}
        assert found.accuracy == pytest.approx(oracle.accuracy_score(truth, predicted))
        assert found.precision == pytest.approx(oracle.precision_score(truth, predicted, **options))
        assert found.recall == pytest.approx(oracle.recall_score(truth, predicted, **options))
        assert found.f1 == pytest.approx(oracle.f1_score(truth, predicted, **options))


def test_hotdog_is_the_positive_class() -> None:
    for name in ("hotdog", "hot_dog", "Hot-Dog"):
        assert positive_class(["not_hotdog", name], None) == 1
    assert positive_class(["cat", "dog"], None) is None
    assert positive_class(["cat", "dog"], "dog") == 1
    with pytest.raises(UserError, match="positive class 'cow': there is no such class; choose one of cat, dog"):
        positive_class(["cat", "dog"], "cow")
