"""What an audit finds: planted mistakes come first, planted copies and outliers are found, and nothing else is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageFilter
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import LocalOutlierFactor
from threadpoolctl import threadpool_limits

from cnn.data.sample import draw
from cnn.data.similarity import DifferenceHash
from cnn.evaluation import audit
from cnn.evaluation.audit import (
    BLURRED,
    OUTLIER_Z,
    Appearance,
    duplicate_groups,
    outlier_scores,
    rank_labels,
    suspect_labels,
)


def random_hashes(count: int, rng: np.random.Generator) -> list[DifferenceHash]:
    return [DifferenceHash(rng.bytes(32), 100.0) for _ in range(count)]


# ---- labels


@given(st.data())
def test_suspects_are_as_the_paper_says(data: st.DataObject) -> None:
    classes, count = data.draw(st.integers(2, 4)), data.draw(st.integers(4, 12))
    labels = np.array([*range(classes), *data.draw(st.lists(st.integers(0, classes - 1), min_size=count))])
    shares = data.draw(arrays(float, (len(labels), classes), elements=st.integers(1, 9).map(float)))
    probabilities = shares / shares.sum(1, keepdims=True)
    suggested = suspect_labels(labels, probabilities)
    means = [
        np.mean([p[c] for p, label in zip(probabilities, labels, strict=True) if label == c]) for c in range(classes)
    ]
    for label, found, row in zip(labels, suggested, probabilities, strict=True):
        confident = {c: row[c] for c in range(classes) if row[c] >= means[c]}
        assert found == (max(confident, key=confident.__getitem__) if confident else label)


@pytest.mark.parametrize("classes", [2, 5])
def test_flipped_labels_come_first(classes: int) -> None:
    rng = np.random.default_rng(classes)
    true = rng.integers(0, classes, 600)
    features = rng.normal(size=(classes, 20))[true] + 0.8 * rng.normal(size=(600, 20))
    flipped = rng.choice(600, 60, replace=False)
    labels = true.copy()
    labels[flipped] = (labels[flipped] + rng.integers(1, classes, 60)) % classes
    with threadpool_limits(1):
        probabilities = cross_val_predict(LogisticRegression(), features, labels, cv=5, method="predict_proba")
    order = rank_labels(labels, probabilities)
    assert sorted(order) == list(range(600))
    assert np.isin(order[:60], flipped).mean() >= 0.7
    suggested = suspect_labels(labels, probabilities)
    is_found = suggested[flipped] != labels[flipped]
    assert (suggested[flipped] == true[flipped])[is_found].mean() > 0.9


# ---- near duplicates


def test_near_duplicates_are_found_by_features_by_hash_and_by_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "_COSINES", 100_000)  # several times as many must be compared
    rng = np.random.default_rng(0)
    features = rng.normal(size=(1500, 64)).astype(np.float32)  # more than are compared at a time
    hashes, ids = random_hashes(1500, rng), [str(number) for number in range(1500)]
    features[1400] = features[3] + 0.1 * rng.normal(size=64)
    features[7] = features[3] + 0.1 * rng.normal(size=64)
    hashes[1200] = hashes[10]
    ids[1300] = ids[20]
    groups, cosines = duplicate_groups(features, hashes, ids)
    members = [set(np.flatnonzero(groups == number)) for number in range(1, groups.max() + 1)]
    assert members == [{3, 7, 1400}, {10, 1200}, {20, 1300}]
    assert cosines[[3, 7, 1400]].min() > 0.9 > np.delete(cosines, [3, 7, 1400]).max()


def test_images_without_features_are_compared_by_hash_and_id_alone() -> None:
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(40, 16)).astype(np.float32), np.repeat([0, 1], 20)
    hashes, ids = random_hashes(40, rng), [str(number) for number in range(40)]
    features[5] = features[3]
    hashes[30], ids[31] = hashes[10], ids[20]
    known = np.arange(40) < 30
    unknown = np.where(known[:, None], features, np.nan)
    groups, cosines = duplicate_groups(unknown, hashes, ids)
    members = [set(np.flatnonzero(groups == number)) for number in range(1, groups.max() + 1)]
    assert members == [{3, 5}, {10, 30}, {20, 31}] and (np.isnan(cosines) == ~known).all()
    scores = outlier_scores(unknown, labels)
    assert not scores[~known].any()
    np.testing.assert_allclose(scores[known], outlier_scores(features[known], labels[known]), atol=1e-6)


def test_images_without_any_difference_are_one_group() -> None:
    hashes = random_hashes(1, np.random.default_rng(0)) * 5
    groups, _ = duplicate_groups(np.ones((5, 8), np.float32), hashes, list("abcde"))
    assert groups.tolist() == [1] * 5


# ---- outliers


def test_an_image_of_something_else_is_an_outlier_of_its_class_only() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 100)
    features = rng.normal(size=(200, 16)) + 20 * labels[:, None]
    features[5] += 20  # among the images of the other class
    scores = outlier_scores(features, labels)
    assert np.flatnonzero(scores >= OUTLIER_Z).tolist() == [5]
    local = -LocalOutlierFactor(10).fit(features[:100]).negative_outlier_factor_
    assert scores[:100].argmax() == local.argmax()


def test_outliers_need_images_that_differ() -> None:
    assert not outlier_scores(np.ones((7, 3)), np.array([0, 0, 0, 0, 0, 0, 1])).any()


def test_scores_do_not_depend_on_the_features_unit() -> None:
    rng = np.random.default_rng(1)
    features, labels = rng.normal(size=(60, 4)), np.repeat([0, 1, 2], 20)
    assert np.allclose(
        outlier_scores(features * [1, 10, 100, 1e3] + 5, labels), outlier_scores(features, labels), atol=1e-3
    )


# ---- flawed images


def photo() -> Image.Image:
    return Image.fromarray(draw("hotdog", 0, 0))


def test_a_drawn_photo_has_no_flaw() -> None:
    assert not Appearance.of(photo()).flaws()


@pytest.mark.parametrize(
    ("flaw", "image"),
    [
        ("dark", photo().point(lambda value: value // 8)),
        ("bright", photo().point(lambda value: 225 + value // 9)),
        ("blurred", photo().filter(ImageFilter.GaussianBlur(8))),
        ("tiny", photo().resize((64, 64))),
        ("one colour", Image.new("RGB", (300, 300), (90, 120, 90))),
    ],
)
def test_each_flaw_is_named(flaw: str, image: Image.Image) -> None:
    assert flaw in Appearance.of(image).flaws()


def test_low_contrast_is_not_blur() -> None:
    dim = Appearance.of(photo().point(lambda value: 100 + value // 6))
    assert dim.sharpness < BLURRED and not dim.flaws()
