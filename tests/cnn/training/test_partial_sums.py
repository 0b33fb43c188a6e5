"""A head solved in blocks against scikit-learn, which has all images at once."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from learners import START
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from cnn.data.datasets import Dataset
from cnn.training import partial_sums, transfer
from cnn.training.head import solve_head
from cnn.training.hyperparameters import HeadStage
from cnn.training.partial_sums import complete, sample

STAGE = HeadStage(strengths=(0.01,), folds=3)
BLOCK = 64


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partial_sums, "_BLOCK", BLOCK)


def draw(count: int, classes: int) -> tuple[Any, Any]:
    """Features (n, 6) of different scales, one of them constant, that hint at the labels (n,)."""
    rng = np.random.default_rng(classes)
    labels = np.minimum(rng.integers(0, classes + 1, count), classes - 1)
    features = (rng.normal(size=(count, 6)) + labels[:, None] * rng.normal(size=6)) * np.geomspace(0.01, 100, 6) + 30
    features[:, 3] = 5
    return features.astype(np.float32), labels


def regression(images: int, weights: Any, features: Any, labels: Any) -> Any:
    solver = LogisticRegression(C=1 / (0.01 * images), class_weight=weights, tol=1e-10, max_iter=10_000)
    return make_pipeline(StandardScaler(), solver).fit(features.astype(float), labels)


@pytest.mark.parametrize("weights", ["balanced", "equal"])
@pytest.mark.parametrize("classes", [2, 4])
def test_solution_is_scikit_learns(classes: int, weights: Any) -> None:
    features, labels = draw(500, classes)
    stage, class_weight = STAGE.replace(class_weights=weights), None if weights == "equal" else weights
    loaded: list[int] = []

    def load(numbers: Any) -> Any:
        loaded.append(len(numbers))
        return features[numbers]

    few = sample(labels, 100, seed=1)
    with threadpool_limits(1):
        head = complete(solve_head(features[few], labels[few], stage), load, labels, stage, seed=3)
        assert max(loaded) <= BLOCK
        scaler, solved = regression(500, class_weight, features, labels)
        weight, bias = head.weight * scaler.scale_, head.bias + head.weight @ scaler.mean_
        centered = weight - weight.mean(0), bias - bias.mean()  # softmax does not see a number added to all logits
        if classes == 2:
            weight, bias = np.diff(centered[0], axis=0), np.diff(centered[1])
        else:
            weight, bias = centered
        np.testing.assert_allclose(weight, solved.coef_ - (classes > 2) * solved.coef_.mean(0), atol=2e-6)
        np.testing.assert_allclose(bias, solved.intercept_ - (classes > 2) * solved.intercept_.mean(), atol=2e-6)
        for others, asked in StratifiedKFold(3, shuffle=True, random_state=3).split(labels, labels):
            expected = regression(len(others), class_weight, features[others], labels[others])
            np.testing.assert_allclose(head.held_out[asked], expected.predict_proba(features[asked]), atol=2e-3)


@given(st.lists(st.integers(2, 50), min_size=2, max_size=5), st.integers(1, 200))
def test_sample_has_each_class_by_its_share(counts: list[int], most: int) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    chosen = sample(labels, most, seed=0)
    assert len(set(chosen)) == len(chosen) and sorted(chosen) == list(chosen)
    share = min(1, most / len(labels))
    for count, found in zip(counts, np.bincount(labels[chosen], minlength=len(counts)), strict=True):
        assert 2 <= found <= count and abs(found - max(2, share * count)) <= 0.5
    if most >= len(labels):
        assert len(chosen) == len(labels)


def test_transfer_of_many_images_is_that_of_few(drawn_dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for most in (12, 1000):
        monkeypatch.setattr(transfer, "_IN_MEMORY", most)
        found.append(transfer.transfer(drawn_dataset, START, STAGE))
    blocks, whole = found
    assert blocks.held_out["ids"].tolist() == whole.held_out["ids"].tolist()
    np.testing.assert_allclose(blocks.held_out["probabilities"], whole.held_out["probabilities"], atol=0.05)
    for name, values in whole.parameters.items():
        np.testing.assert_allclose(blocks.parameters[name], values, atol=1e-4, rtol=1e-4, err_msg=name)
