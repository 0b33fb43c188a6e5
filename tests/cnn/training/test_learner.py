"""Single steps of learning against plain numpy, on one device and on several, and resumed."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from learners import linear_model
from numpy.typing import NDArray

from cnn.networks.running import parameters
from cnn.support.backend import CPU, Devices, mx
from cnn.training.checkpoints import Arrays, TrainingState, load_state, save_state
from cnn.training.hyperparameters import Training
from cnn.training.learner import Classes, Learner, Model, class_weights

THREE = Classes(("a", "b", "c"), positive=1, counts=(10, 30, 2))
RATES = (0.1, 0.3, 0.05, 0.2)
Batches = list[tuple[NDArray[np.float32], NDArray[np.int64]]]


@pytest.fixture
def start() -> Arrays:
    rng = np.random.default_rng(0)
    return {"weight": rng.normal(size=(3, 5)).astype(np.float32), "bias": rng.normal(size=3).astype(np.float32)}


@pytest.fixture
def batches() -> Batches:
    rng = np.random.default_rng(1)
    return [(rng.normal(size=(count, 5)).astype(np.float32), rng.integers(0, 3, count)) for count in (6, 6, 4, 6)]


def learn(learner: Learner, batches: Batches, rates: tuple[float, ...] = RATES) -> list[float]:
    """Learn from each batch; returns the losses."""
    steps = zip(batches, rates, strict=True)
    return [learner.step((mx.nd.array(inputs), labels), rate)[0] for (inputs, labels), rate in steps]


def expected(settings: Training, weights: list[float], start: Arrays, batches: Batches) -> tuple[list[float], Arrays]:
    """Losses and last parameters as the papers' formulas give them, in double precision."""
    values = {name: array.astype(np.float64) for name, array in start.items()}
    first, second = ({name: np.zeros_like(array) for name, array in values.items()} for _ in range(2))
    losses = []
    for number, ((inputs, labels), rate) in enumerate(zip(batches, RATES, strict=True), 1):
        scores = np.exp(inputs @ values["weight"].T + values["bias"])
        probabilities = scores / scores.sum(1, keepdims=True)
        smoothing, weight = settings.label_smoothing, np.array(weights)[labels, None]
        targets = (1 - smoothing) * (labels[:, None] == np.arange(3)) + smoothing / 3
        losses.append(float((-weight * targets * np.log(probabilities)).sum(1).mean()))
        errors = weight * (probabilities - targets) / len(labels)
        gradients = {"weight": errors.T @ inputs, "bias": errors.sum(0)}
        for name, gradient in gradients.items():
            decay = settings.weight_decay if name == "weight" else 0
            if settings.optimizer == "sgd":
                first[name] = settings.momentum * first[name] - rate * (gradient + decay * values[name])
                values[name] = values[name] + first[name]
            else:  # Kingma & Ba 2015; decay as in Loshchilov & Hutter 2019
                first[name] = 0.9 * first[name] + 0.1 * gradient
                second[name] = 0.999 * second[name] + 0.001 * gradient**2
                mean, square = first[name] / (1 - 0.9**number), second[name] / (1 - 0.999**number)
                values[name] = (values[name] - rate * mean / np.sqrt(square)) * (1 - rate * decay)
    return losses, values


CASES: dict[str, tuple[dict, list[float]]] = {
    "sgd": ({}, [1, 1, 1]),
    "momentum": ({"momentum": 0.9}, [1, 1, 1]),
    "sgd with decay": ({"momentum": 0.5, "weight_decay": 0.3}, [1, 1, 1]),
    "adam": ({"optimizer": "adam"}, [1, 1, 1]),
    "adam with decay": ({"optimizer": "adam", "weight_decay": 0.3}, [1, 1, 1]),
    "label smoothing": ({"label_smoothing": 0.2}, [1, 1, 1]),
    "notebook's weights": ({"class_weights": "notebook"}, [1 / 5, 6 / 5, 1 / 5]),
    "balanced weights": ({"class_weights": "balanced", "label_smoothing": 0.1}, [42 / 30, 42 / 90, 42 / 6]),
}


@pytest.mark.parametrize("devices", [1, 2, 3])
@pytest.mark.parametrize("case", CASES)
def test_steps_are_as_the_formulas_say(case: str, devices: int, start: Arrays, batches: Batches) -> None:
    changes, weights = CASES[case]
    settings = Training(**{"class_weights": "equal"} | changes)
    learner = Learner(settings, THREE, linear_model(start, Devices(numbers=tuple(range(devices)))))
    losses = learn(learner, batches)
    expected_losses, expected_values = expected(settings, weights, start, batches)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
    for name, values in parameters(learner.model.net).items():
        np.testing.assert_allclose(values, expected_values[name], rtol=1e-4, atol=1e-6, err_msg=name)
        np.testing.assert_array_equal(
            [copy.asnumpy() for copy in getattr(learner.model.net, name).list_data()], [values] * devices
        )
    assert learner.steps_done == len(batches)


def test_step_returns_the_outputs_before_it(start: Arrays, batches: Batches) -> None:
    inputs, labels = batches[0]
    learner = Learner(Training(), THREE, linear_model(start, Devices(numbers=(0, 1))))
    outputs = learner.step((mx.nd.array(inputs), labels), 1.0)[1]
    np.testing.assert_allclose(outputs, inputs @ start["weight"].T + start["bias"], rtol=1e-5, atol=1e-6)


def test_prediction_changes_nothing(start: Arrays, batches: Batches) -> None:
    inputs, labels = batches[0]
    learner = Learner(Training(momentum=0.9), THREE, linear_model(start))
    outputs = learner.predict((mx.nd.array(inputs), labels))
    np.testing.assert_allclose(outputs, inputs @ start["weight"].T + start["bias"], rtol=1e-5, atol=1e-6)
    assert learner.steps_done == 0 and not learner.optimizer_state()
    for name, values in parameters(learner.model.net).items():
        np.testing.assert_array_equal(values, start[name])


@pytest.mark.parametrize("devices", [CPU, Devices(numbers=(0, 1))], ids=str)
@pytest.mark.parametrize(
    "changes", [{}, {"momentum": 0.9, "weight_decay": 0.1}, {"optimizer": "adam", "weight_decay": 0.1}], ids=str
)
def test_restored_learner_goes_on_as_before(
    changes: dict, devices: Devices, start: Arrays, batches: Batches, tmp_path: Path
) -> None:
    settings, state_file = Training(**changes), tmp_path / "state.npz"
    whole, killed, resumed = (Learner(settings, THREE, linear_model(start, devices)) for _ in range(3))
    losses = learn(whole, batches)
    learn(killed, batches[:2], RATES[:2])
    current = parameters(killed.model.net)
    save_state(state_file, TrainingState(current, killed.optimizer_state(), best=start, steps_done=killed.steps_done))
    state = load_state(state_file)
    assert state
    resumed.restore(state)
    assert learn(resumed, batches[2:], RATES[2:]) == losses[2:]
    for name, values in parameters(whole.model.net).items():
        np.testing.assert_array_equal(parameters(resumed.model.net)[name], values)
    assert resumed.steps_done == whole.steps_done
    assert whole.optimizer_state().keys() == resumed.optimizer_state().keys()


def two_layers(built_before: int) -> Model:
    """A network in a process that built so many layers before it: Gluon's names of layers count them."""
    with mx.name.NameManager():
        for _ in range(built_before):
            mx.gluon.nn.Dense(1)
        net = mx.gluon.nn.HybridSequential()
        net.add(mx.gluon.nn.Dense(5, in_units=5), mx.gluon.nn.Dense(3, in_units=5))
    mx.random.seed(0)
    net.initialize(mx.init.Xavier())
    return Model(net, learning=net, forward=net, predict=net)


def test_restored_learner_does_not_depend_on_what_the_process_built_before(batches: Batches) -> None:
    settings = Training(optimizer="adam")
    whole, killed, resumed = (Learner(settings, THREE, two_layers(before)) for before in (9, 9, 0))
    losses = learn(whole, batches)
    learn(killed, batches[:2], RATES[:2])
    current = parameters(killed.model.net)
    resumed.restore(TrainingState(current, killed.optimizer_state(), best=current, steps_done=killed.steps_done))
    assert learn(resumed, batches[2:], RATES[2:]) == losses[2:]


def test_batch_may_be_smaller_than_the_number_of_devices(start: Arrays, batches: Batches) -> None:
    inputs, labels = batches[0][0][:1], batches[0][1][:1]
    found = [
        Learner(Training(), THREE, linear_model(start, devices)).predict((mx.nd.array(inputs), labels))
        for devices in (CPU, Devices(numbers=(0, 1)))
    ]
    assert found[1].shape == (1, 3)
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6)


@given(st.lists(st.integers(1, 1000), min_size=2, max_size=6))
def test_balanced_weights_give_each_class_the_same_sum(counts: list[int]) -> None:
    classes = Classes(tuple(map(str, counts)), None, tuple(counts))
    weights = class_weights(Training(class_weights="balanced"), classes)
    np.testing.assert_allclose(weights * counts, np.sum(counts) / len(counts), rtol=1e-5)


def test_notebook_weights_favour_the_positive_class() -> None:
    notebook = Training(class_weights="notebook")
    np.testing.assert_allclose(class_weights(notebook, THREE), [1 / 5, 6 / 5, 1 / 5])  # its (1 + 5 y) / 5
    assert (class_weights(Training(class_weights="equal"), THREE) == 1).all()
