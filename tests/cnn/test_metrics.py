"""Metrics against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from cnn.errors import UserError
from cnn.metrics import confusion_matrix, positive_class, scores

ANSWERS = st.integers(2, 5).flatmap(
    lambda classes: st.tuples(
        st.just(classes),
        st.lists(st.tuples(st.integers(0, classes - 1), st.integers(0, classes - 1)), min_size=1, max_size=60),
    )
)


@given(ANSWERS)
def test_scores_are_scikit_learns(answers: tuple[int, list[tuple[int, int]]]) -> None:
    classes, pairs = answers
    truth, said = np.array(pairs).T
    every = range(classes)
    confusion = confusion_matrix(truth, said, classes)
    np.testing.assert_array_equal(confusion, oracle.confusion_matrix(truth, said, labels=every))
    for positive in (None, *every):
        labels = list(every) if positive is None else [positive]
        found = scores(confusion, positive)
        options = {"labels": labels, "average": "macro", "zero_division": 0}
        assert found["accuracy"] == pytest.approx(oracle.accuracy_score(truth, said))
        assert found["precision"] == pytest.approx(oracle.precision_score(truth, said, **options))
        assert found["recall"] == pytest.approx(oracle.recall_score(truth, said, **options))
        assert found["f1"] == pytest.approx(oracle.f1_score(truth, said, **options))


def test_the_positive_class_is_the_hotdog_however_it_is_spelt() -> None:
    for name in ("hotdog", "hot_dog", "Hot-Dog"):
        assert positive_class(["not_hotdog", name], None) == 1
    assert positive_class(["cat", "dog"], None) is None
    assert positive_class(["cat", "dog"], "dog") == 1
    with pytest.raises(UserError, match="choose one of cat, dog"):
        positive_class(["cat", "dog"], "cow")
