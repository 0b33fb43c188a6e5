"""The head against scikit-learn called directly, and against properties that it must have."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix, log_loss
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cnn.training.head import Head, learning_curve, solve_head
from cnn.training.hyperparameters import HeadStage

ONE = HeadStage(strengths=(0.1,))


def draw(count: int, classes: int = 2, seed: int = 0) -> tuple[Any, Any]:
    """Features (n, 8) that hint at the labels (n,); the classes differ in size."""
    rng = np.random.default_rng(seed)
    labels = np.minimum(rng.integers(0, classes + 1, count), classes - 1)
    labels[: 2 * classes] = np.tile(np.arange(classes), 2)
    features = rng.gamma(2, 5, (count, 8)) + rng.normal(size=(count, 8))
    features[..., :classes] += 4 * np.eye(classes)[labels]
    return features.astype(np.float32), labels


def answers(head: Head, features: Any) -> Any:
    """Probabilities by a head's weight and bias."""
    powers = np.exp(features @ head.weight.T + head.bias)
    return powers / powers.sum(1, keepdims=True)


@pytest.mark.parametrize("weights", ["balanced", "equal"])
@pytest.mark.parametrize("classes", [2, 3])
def test_solution_is_scikit_learns(classes: int, weights: Any) -> None:
    features, labels = draw(90, classes)
    head = solve_head(features, labels, ONE.replace(class_weights=weights))
    regression = LogisticRegression(
        C=1 / (0.1 * 90), class_weight=None if weights == "equal" else weights, tol=1e-9, max_iter=10_000
    )
    expected = make_pipeline(StandardScaler(), regression).fit(features.astype(float), labels)
    np.testing.assert_allclose(answers(head, features), expected.predict_proba(features), atol=1e-4)


def test_strength_of_the_least_log_loss_is_chosen() -> None:
    features, labels = draw(90)
    stage = HeadStage(strengths=(0.001, 1.0, 0.03, 100.0), folds=4, class_weights="equal")
    head = solve_head(features, labels, stage, seed=3)
    losses: dict[float, list[float]] = {strength: [] for strength in stage.strengths}
    expected = np.zeros((90, 2))
    for solve, measure in StratifiedKFold(4, shuffle=True, random_state=3).split(labels, labels):
        for strength, found in losses.items():
            regression = LogisticRegression(C=1 / (strength * len(solve)), tol=1e-9, max_iter=10_000)
            estimator = make_pipeline(StandardScaler(), regression).fit(features[solve].astype(float), labels[solve])
            answered = estimator.predict_proba(features[measure])
            found.append(log_loss(labels[measure], answered))
            if strength == head.strength:
                expected[measure] = answered
    means = {strength: np.mean(found) for strength, found in losses.items()}
    assert head.strength == min(means, key=lambda strength: means[strength])
    for tried in head.path:
        assert tried.log_loss == pytest.approx(means[tried.strength], rel=1e-3)
        error = np.std(losses[tried.strength], ddof=1) / 2
        assert tried.log_loss_error == pytest.approx(error, rel=1e-2)
    np.testing.assert_allclose(head.held_out, expected, atol=2e-3)
    (chosen,) = (each for each in head.path if each.strength == head.strength)
    np.testing.assert_array_equal(chosen.confusion, confusion_matrix(labels, expected.argmax(1)))


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 1000), st.integers(2, 4))
def test_order_and_copies_change_nothing(seed: int, classes: int) -> None:
    features, labels = draw(60, classes, seed)
    first = solve_head(features, labels, ONE)
    order = np.random.default_rng(seed).permutation(len(labels))
    twice = np.tile(order, 2)
    for chosen in (order, twice):
        other = solve_head(features[chosen], labels[chosen], ONE)
        np.testing.assert_allclose(answers(other, features), answers(first, features), atol=1e-3)


def test_scale_of_a_feature_does_not_matter() -> None:
    features, labels = draw(60)
    scaled = features * np.geomspace(0.01, 100, 8).astype(np.float32)
    np.testing.assert_allclose(
        answers(solve_head(scaled, labels, ONE), scaled),
        answers(solve_head(features, labels, ONE), features),
        atol=1e-3,
    )


def test_held_out_answer_does_not_know_the_image() -> None:
    features, labels = draw(60)
    first = solve_head(features, labels, ONE).held_out
    for image in (0, 17, 59):
        changed = features.copy()
        changed[image] += 50
        other = solve_head(changed, labels, ONE)
        flipped = (changed[image] - features[image]) @ (other.weight[1] - other.weight[0])
        assert abs(flipped) > 0.1
        (fold,) = (part for _, part in _folds(labels) if image in part)
        others = np.setdiff1d(fold, image)
        np.testing.assert_allclose(other.held_out[others], first[others], atol=1e-6)  # solved without the image
        unknown = np.setdiff1d(np.arange(60), fold)
        assert np.abs(other.held_out[unknown] - first[unknown]).max() > 1e-3  # solved with it


def _folds(labels: Any) -> Any:
    return StratifiedKFold(5, shuffle=True, random_state=0).split(labels, labels)


def test_few_images_of_a_class_have_fewer_folds() -> None:
    features, labels = draw(30)
    labels[:] = 0
    labels[:2] = 1
    assert solve_head(features, labels, ONE).held_out.shape == (30, 2)


def test_seed_decides_the_folds_alone() -> None:
    features, labels = draw(60)
    first, again, other = (solve_head(features, labels, ONE, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.held_out, again.held_out)
    assert (first.held_out != other.held_out).any()
    np.testing.assert_array_equal(first.weight, other.weight)


# ---- fewer images


def test_learning_curve_measures_each_image_once_at_each_size() -> None:
    features, labels = draw(100, 3)
    curve = learning_curve(features, labels, 0.1, ONE)
    assert [count for count, _ in curve] == [8, 16, 32, 48, 64, 80]
    for _, confusion in curve:
        np.testing.assert_array_equal(confusion.sum(1), np.bincount(labels))
    head = solve_head(features, labels, ONE)
    np.testing.assert_array_equal(curve[-1][1], confusion_matrix(labels, head.held_out.argmax(1)))


def test_learning_curve_leaves_out_sizes_without_a_class() -> None:
    features, labels = draw(40)
    labels[:] = 0
    labels[::8] = 1  # five, of which a fold lacks one
    assert [count for count, _ in learning_curve(features, labels, 0.1, ONE)] == [12, 19, 25, 32]
