"""The notebook's networks trained, compared, the best published: python flows/cifar.py (--help lists all settings)."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script, Python looks in flows/ only

from cnn.evaluation.comparison import Comparison
from cnn.publication.model_card import summary
from cnn.publication.records import MANIFEST_FILE
from cnn.support.backend import choose_devices
from cnn.training.workers import together
from flows import outcomes, runs
from flows.commandline import run_flow
from flows.settings import CifarSettings
from tasks import evaluating, fetching, preparing, publishing, training


@runs.flow(CifarSettings)
def cifar(settings: CifarSettings) -> runs.End:
    """Small images in, the best of several networks out; each step is cached and shows in the Prefect UI."""
    place = runs.begin(settings)
    recipes, seed, store, mirror = settings.make_recipes(), settings.seed, place.store, place.mirror
    stages = {name: recipe.stages[-1] for name, recipe in recipes.items()}
    devices = choose_devices(settings.device, every=len(stages) > 1)  # one for each network
    where: dict[str, Any] = {"devices": devices, "store": store}

    data = fetching.choose_data(settings.data, store, mirror)
    name, published = place.model(data, settings.name)

    source = fetching.fetch_data(data, seed=seed, store=store, mirror=mirror)
    chooses_on_test = any(recipe.chooses_on_test for recipe in recipes.values())
    dataset = preparing.prepare(source, labels=place.labels, test_as_validation=chooses_on_test, store=store)
    publishing.check_source(dataset, data, place.models / name, settings.promote)
    if outcome := outcomes.too_few_new(dataset, published, settings.min_new):
        return runs.end(outcome, dataset)
    pixels = preparing.pack_pixels_of_each(stages, dataset, store)
    with together() as workers:
        checkpoints, failures = training.train_architectures(stages, pixels, dataset, seed=seed, **where)
    if not workers.leads:
        return runs.end_following(checkpoints)
    reports = evaluating.evaluate_each(checkpoints, dataset, **where)
    comparison = evaluating.compare(checkpoints=checkpoints, reports=reports, dataset=dataset, store=store)
    best = Comparison.open(comparison.path).best
    version = publishing.publish(
        name=name,
        checkpoint=checkpoints[best],
        report=comparison,
        dataset=dataset,
        lineage=publishing.trace(data, source, dataset, recipes[best], seed=seed, devices=devices),
        made_from={"data": source},
        models=place.models,
        promote=settings.promote,
        margin=settings.margin,
        int8=settings.int8,
    )
    runs.require_no_failures(failures, version)
    return runs.end(outcomes.of_version(version, published), dataset)


def _describe(result: Path) -> str:
    """What a run prints at its end, of a version, or of a checkpoint where another machine's run publishes."""
    return summary(result) if (result / MANIFEST_FILE).exists() else f"Trained; worker 0 publishes: {result}"


if __name__ == "__main__":
    run_flow(CifarSettings, cifar, _describe)
