"""The model card: what a published version is, in words for people; Prefect's report is the same text."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from cnn.classifier import CHAMPION_FILE, MANIFEST_FILE
from cnn.comparison import comparison_rows
from cnn.hyperparameters import PRETRAINED


def metrics_rows(metrics: dict[str, dict[str, float]]) -> list[dict[str, str]]:
    """Metrics as table rows, one per split.

    >>> metrics_rows({"test": {"f1": 0.875, "pictures": 8}})
    [{'split': 'test', 'f1': '0.875', 'pictures': '8'}]
    """
    return [
        {"split": split}
        | {name: f"{value:,}" if name == "pictures" else f"{value:.3f}" for name, value in values.items()}
        for split, values in metrics.items()
    ]


_EPOCH_COLUMNS = ("stage", "epoch", "train_loss", "train_accuracy", "validation_accuracy", "validation_f1")


def history_rows(version: Path) -> list[dict[str, str]]:
    """The epochs of a published version as table rows for people; ``history.parquet`` has all their figures."""
    told = pq.read_table(version / "history.parquet")
    names = [name for name in _EPOCH_COLUMNS if name in told.column_names]
    return [
        {name.replace("_", " "): _figure(epoch[name]) for name in names} for epoch in told.select(names).to_pylist()
    ]


def _figure(value: float | None) -> str:
    """A figure for people, with digits behind the point only if it may have some.

    >>> _figure(3), _figure(0.25), _figure(None)
    ('3', '0.2500', '')
    """
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


def summary(version: Path) -> str:
    """What a run ends with in the terminal: metrics, where the model is, whether it became the champion."""
    manifest = json.loads((version / MANIFEST_FILE).read_text())
    rows = metrics_rows(manifest["metrics"])
    lines = _columns([list(rows[0]), *(list(row.values()) for row in rows)])
    if compared := comparison_rows(version):
        lines += ["", *_columns([[figure, *(row[figure] for row in compared)] for figure in compared[0]])]
    champion = json.loads((version.parent / CHAMPION_FILE).read_text())["version"]
    ending = [f"{manifest['name']} {version.name} {_standing(manifest, champion)}", f"Model: {version}"]
    return "\n".join(["", *lines, "", *ending, *_untested(manifest), *manifest["notes"]])


def _standing(manifest: dict[str, Any], champion: str) -> str:
    """Whether a version is the champion, and why, unless that has changed since it was published.

    >>> _standing({"version": "v0001", "promoted": True, "why": "It is the first."}, "v0002")
    'is the champion no longer: v0002 is.'
    """
    is_champion = manifest["version"] == champion
    if is_champion == manifest["promoted"]:
        return f"is {'' if is_champion else 'not '}the champion. {manifest['why']}"
    return "has become the champion since." if is_champion else f"is the champion no longer: {champion} is."


def _columns(table: list[list[str]]) -> list[str]:
    """Lines of cells as text in right-aligned columns.

    >>> _columns([["a", "bc"], ["def", "g"]])
    ['  a  bc', 'def   g']
    """
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)) for line in table]


def _untested(manifest: dict[str, Any]) -> list[str]:
    return [] if "test" in manifest["metrics"] else ["There is no test part, so there are no test figures."]


def _table(rows: list[dict[str, str]]) -> str:
    header = list(rows[0])
    lines = [header, ["---"] * len(header), *([row[name] for name in header] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _origin(manifest: dict[str, Any]) -> str:
    data, weights = manifest["data"], manifest["weights"]
    start = f"{weights['source']}, sha256 `{weights['digest'][:16]}…`" if weights else "random, by the seed"
    counts = "; ".join(
        f"{split}: " + ", ".join(f"{count:,} {label}" for label, count in labels.items())
        for split, labels in data["counts"].items()
    )
    return f"""- Data: {data["source"]} ({counts}). {data["split"]}
- Left out: {data["left_out"]} files that could not be used, {data["duplicates"]} that stood on both sides.
- Weights at the start: {start}
- Recipe `{manifest["recipe"]["name"]}`, seed {manifest["seed"]}, trained on {manifest["device"]} with \
MXNet {manifest["software"]["mxnet"]}; `manifest.json` holds every setting of this network and every digest."""


def _in_and_out(given: dict[str, Any], mirrored_mean: bool) -> str:
    scaled = "each picture stretched to 0…1"
    if given["mean"]:
        mean, std = ([round(value, 3) for value in given[name]] for name in ("mean", "std"))
        scaled = f"/255, mean {mean}, std {std}"
    mean_of = ""
    if mirrored_mean:
        mean_of = (
            ", the mean of those for the picture and for its mirror image "
            "(symbol and ONNX do this themselves; with the `.params` alone, run the network on both)"
        )
    return f"""Input: the picture's shorter side resized to {given["short_side"]} px, the middle {given["crop"]} × \
{given["crop"]} px, RGB, {scaled}. Output: logits in the order of `classes.json`{mean_of}."""


def model_card(manifest: dict[str, Any], compared: list[dict[str, str]]) -> str:
    """Markdown from a manifest, and from the rows of the comparison that the network came out of as best.

    A paragraph is a line: the Prefect UI breaks lines where the text does.
    """
    about = f"class {manifest['positive']}" if manifest["positive"] else "the mean over all classes"
    notes = "".join(f"\n> {note}\n" for note in manifest["notes"])
    architecture, classes = manifest["architecture"], len(manifest["classes"])
    comparison = f"\n{_table(compared)}\n" if compared else ""
    in_zoo = (architecture, manifest["input"]["crop"]) == (PRETRAINED.architecture, PRETRAINED.input.crop)
    zoo = f" (and `gluon.model_zoo.vision.squeezenet1_1(classes={classes})`)" if in_zoo else ""
    return f"""# {manifest["name"]} {manifest["version"]}
{notes}
Network `{architecture}` that tells apart: {", ".join(manifest["classes"])}. Published {manifest["created"]}.

{_table(metrics_rows(manifest["metrics"]))}
{comparison}
Precision, recall and F1 are about {about}. Whatever was chosen was chosen on validation. \
{" ".join(_untested(manifest))}

**Champion:** {"yes" if manifest["promoted"] else "no"}. {manifest["why"]}

## Where it comes from

{_origin(manifest)}

## Use

    python -m cnn classify --name {manifest["name"]} PICTURE

{_in_and_out(manifest["input"], manifest["mirrored_mean"])}
`{architecture}.params` loads into `cnn.architectures.{architecture}({classes})`{zoo}, \
`{architecture}-symbol.json` with `{architecture}-0000.params` into `gluon.SymbolBlock.imports`, \
`{architecture}.onnx` into onnxruntime.

## Limits

It knows only these classes and answers with one of them whatever the picture shows. \
Its figures hold for pictures like those it was trained on.
"""
