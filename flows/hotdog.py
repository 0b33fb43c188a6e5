"""From photos to a published classifier: python flows/hotdog.py [--data FOLDER] (--help lists all settings)."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script, Python looks in flows/ only

from cnn.networks.architectures import pretrained_network
from cnn.support.backend import choose_devices
from flows import outcomes, runs
from flows.commandline import run_flow
from flows.settings import HotdogSettings
from tasks import evaluating, fetching, preparing, publishing, training


@runs.flow(HotdogSettings)
def hotdog(settings: HotdogSettings) -> runs.End:
    """Photos in, published classifier out; each step is cached and shows in the Prefect UI."""
    place = runs.begin(settings)
    recipe, seed, positive = settings.make_recipes(), settings.seed, settings.positive
    store, mirror, devices = place.store, place.mirror, choose_devices(settings.device)
    where: dict[str, Any] = {"devices": devices, "store": store}
    decision: dict[str, Any] = {"positive": positive, "threshold": settings.threshold}
    what: dict[str, Any] = {"network": pretrained_network(settings.backbone)} | where

    data = fetching.choose_data(settings.data, store, mirror)
    chosen = fetching.choose_weights(settings.weights, settings.backbone, store, mirror)
    name, published = place.model(data, settings.name)

    source = fetching.fetch_data(data, seed=seed, store=store, mirror=mirror)
    dataset = preparing.prepare(source, labels=place.labels, test_as_validation=recipe.chooses_on_test, store=store)
    preparing.check_decision(dataset, **decision)
    publishing.check_source(dataset, data, place.models / name, settings.promote)
    if outcome := outcomes.too_few_new(dataset, published, settings.min_new):
        return runs.end(outcome, dataset)
    publishing.check_drift(dataset, place.models / name, settings.max_drift)
    weights = fetching.fetch_weights(chosen, settings.backbone, seed=seed, store=store, mirror=mirror)
    (stage,) = recipe.stages
    inputs = preparing.make_inputs(stage, dataset, weights, **what)
    checkpoint = training.train_stage(
        stage, inputs=inputs, dataset=dataset, weights=weights, positive=positive, seed=seed, **what
    )
    trained: dict[str, Any] = {"checkpoint": checkpoint, "dataset": dataset}
    report = evaluating.evaluate("classifier", **trained, inputs=inputs, **decision, **where)
    version = publishing.publish(
        name=name,
        **trained,
        report=report,
        lineage=publishing.trace(data, source, dataset, recipe, weights=weights, seed=seed, devices=devices),
        made_from={"data": source, "weights": weights},
        models=place.models,
        promote=settings.promote,
        margin=settings.margin,
        int8=settings.int8,
    )
    return runs.end(outcomes.of_version(version, published), dataset)


if __name__ == "__main__":
    run_flow(HotdogSettings, hotdog)
