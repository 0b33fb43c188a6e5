"""The model card: what a published version is, in words for people, and the same figures as tables."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from cnn.data.images import Preprocessing
from cnn.evaluation.comparison import Comparison
from cnn.evaluation.metrics import Metrics
from cnn.evaluation.report import CROSS_VALIDATION
from cnn.networks.architectures import PRETRAINED, NetworkConfig
from cnn.publication.champions import champion
from cnn.publication.manifest import Lineage, Manifest, versions
from cnn.publication.records import NOVELTY_FILE, REPORT_PAGE
from cnn.publication.snippets import snippets
from cnn.support.errors import UserError


def metrics_rows(metrics: Mapping[str, Metrics]) -> list[dict[str, str]]:
    """Metrics as table rows, one per metric, with a column for each split.

    >>> metrics_rows({"test": Metrics(accuracy=1, precision=1, recall=1, f1=0.875, images=8)})[3]
    {'': 'F1', 'test': '0.875'}
    """
    columns = {split: dict(values.rows()) for split, values in metrics.items()}
    names = dict.fromkeys(name for column in columns.values() for name in column)
    return [{"": name} | {split: column.get(name, "–") for split, column in columns.items()} for name in names]


def class_rows(manifest: Manifest) -> list[dict[str, str]]:
    """Precision, recall and F1 of each class and their means as table rows, on the last split; older versions none."""
    metrics = list(manifest.metrics.values())[-1]
    rows = [*zip(manifest.classes, metrics.classes, strict=False), ("mean", metrics.mean)]
    titles = {"precision": "precision", "recall": "recall", "f1": "F1"}
    return [
        {"class": label} | {title: found.describe(name) for name, title in titles.items()}
        for label, found in rows
        if found
    ]


def published_at(manifest: Manifest) -> str:
    """When a version was published, in local time, to the minute."""
    return f"{datetime.fromisoformat(manifest.created).astimezone():%Y-%m-%d %H:%M}"


def history_rows(folder: Path) -> list[dict[str, str]]:
    """All versions of a model as table rows, the newest first: from how many images, how good, champion or why not."""
    best = _champion_name(folder)
    return [
        {
            "version": f"{version.name}{' (champion)' if version.name == best else ''}",
            "published": published_at(manifest),
            "images": f"{sum(sum(counts.values()) for counts in manifest.lineage.data.counts.values()):,}",
            "F1": _f1(manifest),
            "decision": manifest.reason,
        }
        for version, manifest in reversed(versions(folder).items())
    ]


def _f1(manifest: Manifest) -> str:
    """The F1 score with its 95 % interval, on test if there is one."""
    split, metrics = list(manifest.metrics.items())[-1]
    return f"{metrics.describe('f1')} on {split}"


def summary(version: Path) -> str:
    """What a run prints at its end: metrics, where the model is, whether it is the champion."""
    manifest = Manifest.open(version)
    lines = _columns(metrics_rows(manifest.metrics))
    if compared := Comparison.find(version):
        table = compared.table()
        lines += [
            "",
            *_columns([{"": title} | {row["architecture"]: row[title] for row in table} for title in table[0]])[1:],
        ]
    ending = [f"{manifest.name} {version.name} {_standing(manifest, _champion_name(version.parent))}"]
    ending.append(f"Model: {version}")
    if REPORT_PAGE in manifest.files:
        ending.append(f"Open in a browser: {version / REPORT_PAGE}")
    return "\n".join(
        ["", *lines, "", *ending, *_untested(manifest), *filter(None, [manifest.outlook]), *manifest.lineage.notes]
    )


def _champion_name(folder: Path) -> str | None:
    """The version that is the champion, None if there is none that can be named."""
    try:
        best = champion(folder)
    except UserError:
        return None
    return best.name if best else None


def _standing(manifest: Manifest, best: str | None) -> str:
    """Whether a version is the champion, and why, unless that has changed since it was published."""
    is_champion = manifest.version == best
    if is_champion == manifest.promoted:
        return f"is {'' if is_champion else 'not '}the champion. {manifest.reason}"
    if is_champion:
        return "has become the champion since."
    return f"is no longer the champion: {f'{best} is' if best else 'there is none'}."


def _columns(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """A table of text in right-aligned columns, its first line the titles.

    >>> _columns([{"a": "def", "bc": "g"}])
    ['  a  bc', 'def   g']
    """
    table = [list(rows[0]), *(list(row.values()) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)) for line in table]


def _untested(manifest: Manifest) -> list[str]:
    return [] if "test" in manifest.metrics else ["The data has no test split, so there are no test metrics."]


def _chosen(manifest: Manifest) -> str:
    """What chose the network, as a sentence."""
    if "strengths" not in manifest.lineage.stages[-1]:
        return "Epoch and network were chosen on validation."
    learnt_from = "all images but those of test" if CROSS_VALIDATION in manifest.metrics else "the training images"
    return (
        f"The head was solved on {learnt_from}, and the strength of its penalty chosen by cross-validation on them: in "
        "that, each image is answered by a head that does not know it."
    )


def _decision(manifest: Manifest) -> str:
    """What makes a prediction from probabilities, as a sentence."""
    calibration = manifest.calibration
    if calibration.positive is None or calibration.threshold is None:
        return "The most probable class is predicted."
    return (
        f"{manifest.classes[calibration.positive]} is predicted from a probability of {calibration.threshold:.3f} on, "
        f"a threshold that was chosen for {calibration.aim}."
    )


def markdown_table(rows: Sequence[Mapping[str, str]]) -> str:
    """Rows as a table in Markdown, the keys of the first as its titles."""
    header = list(rows[0])
    lines = [header, ["---"] * len(header), *([row[name] for name in header] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _origin(lineage: Lineage, software: Mapping[str, str]) -> str:
    mxnet = next((version for name, version in software.items() if name.startswith("mxnet")), "of unknown version")
    data, weights = lineage.data, lineage.weights
    start = "random, by the seed"
    if weights:
        start = f"{weights.source}, sha256 `{weights.digest[:16]}…`.{_licence(weights.licence)}"
    counts = "; ".join(
        f"{split}: " + ", ".join(f"{count:,} {label}" for label, count in labels.items())
        for split, labels in data.counts.items()
    )
    return f"""- Data: {data.source} ({counts}).{_licence(data.licence)} {data.split_origin}
- Left out: {data.left_out} files that could not be used, {data.duplicates} that are in two splits.
- Weights at the start: {start}
- Recipe `{lineage.recipe}`, random seed {lineage.seed}, trained on {lineage.device} with MXNet {mxnet}; \
`manifest.json` holds every setting and every digest."""


def _licence(name: str) -> str:
    return f" Licence: {name}." if name else ""


def _usage(preprocessing: Preprocessing, mirrored_mean: bool, temperature: float) -> str:
    scaled = "each image stretched to 0…1"
    if preprocessing.mean and preprocessing.std:
        mean, std = ([round(value, 3) for value in values] for values in (preprocessing.mean, preprocessing.std))
        scaled = f"/255, mean {mean}, std {std}"
    mean_of = ""
    if mirrored_mean:
        mean_of = (
            ", the mean of those for the image and for its mirror image "
            "(symbol and ONNX do this themselves; with the `.params` alone, run the network on both)"
        )
    return f"""Input: the shorter side resized to {preprocessing.short_side} px, the middle {preprocessing.crop} × \
{preprocessing.crop} px, RGB, {scaled}. Output: logits in the order of `classes.json`{mean_of}; \
their softmax, after division by {temperature:g}, is the calibrated probability of each class, \
which the ONNX file gives."""


def _use(manifest: Manifest) -> str:
    architecture, classes = manifest.network.architecture, len(manifest.classes)
    return f"""## Use

    python -m cnn classify --name {manifest.name} IMAGE

{_usage(manifest.network.preprocessing, manifest.network.mirrored_mean, manifest.calibration.temperature)} \
`{architecture}.params` loads into `cnn.networks.architectures.{architecture}({classes})`\
{_zoo(manifest.network, classes)}, \
`{architecture}-symbol.json` with `{architecture}-0000.params` into `gluon.SymbolBlock.imports`, \
`{architecture}.onnx` into onnxruntime.

{snippets(manifest)}"""


def _limits(manifest: Manifest) -> str:
    novel = "; it mostly says so if that is unlike all it was trained on" if NOVELTY_FILE in manifest.files else ""
    return f"""## Limits

It knows only these classes and predicts one of them whatever the image shows{novel}. \
Its metrics hold for images like those it was trained on, and only as far as their labels are right. It is not for \
decisions about people, nor for any in which a mistake costs more than another look."""


def _zoo(network: NetworkConfig, classes: int) -> str:
    """Where Gluon's model zoo has the same network, which the pretrained SqueezeNet alone is."""
    is_there = network.model_copy(update={"mirrored_mean": False}) == PRETRAINED
    return f" (and `gluon.model_zoo.vision.squeezenet1_1(classes={classes})`)" if is_there else ""


def front_matter(manifest: Manifest) -> str:
    """What the Hugging Face Hub reads of a model card, between two lines of dashes."""
    weights, (split, metrics) = manifest.lineage.weights, list(manifest.metrics.items())[-1]
    found = {name: round(getattr(metrics, name), 4) for name in ("accuracy", "f1")}
    facts: dict[str, Any] = {
        "license": "other",  # that of the weights and of the photos, see below; this project's own is of its code
        "license_name": (weights.licence if weights else "") or manifest.lineage.data.licence or "unknown",
        "library_name": "mxnet",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "mxnet", "onnx", manifest.network.architecture],
        "metrics": list(found),
        "base_model": weights.source if weights else None,
        "model-index": [
            {
                "name": f"{manifest.name} {manifest.version}",
                "results": [
                    {
                        "task": {"type": "image-classification"},
                        "dataset": {"name": manifest.lineage.data.source, "type": "imagefolder", "split": split},
                        "metrics": [{"type": name, "value": value} for name, value in found.items()],
                    }
                ],
            }
        ],
    }
    # JSON is YAML, too
    lines = (f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in facts.items() if value is not None)
    return "\n".join(["---", *lines, "---"])


def model_card(manifest: Manifest, comparison: Comparison | None) -> str:
    """Markdown from a manifest, and from the comparison that the network is the best of, if there was one.

    A paragraph is a line: the Prefect UI breaks lines where the text does.
    """
    about = f"of the class {manifest.positive}" if manifest.positive else "means over all classes"
    notes = "".join(f"\n> {note}\n" for note in manifest.lineage.notes)
    compared = f"\n{markdown_table(comparison.table())}\n" if comparison else ""
    of_classes = f"\n{markdown_table(rows)}\n" if (rows := class_rows(manifest)) else ""
    return f"""{front_matter(manifest)}

# {manifest.name} {manifest.version}
{notes}
Network `{manifest.network.architecture}` that distinguishes: {", ".join(manifest.classes)}. \
Published {manifest.created}.

{markdown_table(metrics_rows(manifest.metrics))}
{compared}{of_classes}
Precision, recall, F1, average precision and ROC AUC are {about}; 95 % intervals in parentheses. \
{" ".join([_decision(manifest), _chosen(manifest), *_untested(manifest), manifest.outlook]).strip()}

**Champion:** {"yes" if manifest.promoted else "no"}. {manifest.reason}

## Where it comes from

{_origin(manifest.lineage, manifest.software)}

{_use(manifest)}

{_limits(manifest)}
"""
