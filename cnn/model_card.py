"""The model card: what a published version is, in words for people; Prefect's report is the same text."""

import json
from pathlib import Path
from typing import Any


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


def summary(version: Path) -> str:
    """What a run ends with in the terminal: metrics, where the model is, whether it became the champion."""
    manifest = json.loads((version / "manifest.json").read_text())
    rows = metrics_rows(manifest["metrics"])
    lines = [
        "  ".join(f"{name:>10}" for name in rows[0]),
        *("  ".join(f"{v:>10}" for v in r.values()) for r in rows),
    ]
    champion = "is the champion" if manifest["promoted"] else "is not the champion"
    ending = [f"{manifest['name']} {manifest['version']} {champion}. {manifest['why']}", f"Model: {version}"]
    return "\n".join(["", *lines, "", *ending, *_untested(manifest), *manifest["notes"]])


def _untested(manifest: dict[str, Any]) -> list[str]:
    return [] if "test" in manifest["metrics"] else ["The data has no test part, so there are no test figures."]


def _table(rows: list[dict[str, str]]) -> str:
    header = list(rows[0])
    lines = [header, ["---"] * len(header), *([row[name] for name in header] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _origin(manifest: dict[str, Any]) -> str:
    data, weights = manifest["data"], manifest["weights"]
    counts = "; ".join(
        f"{split}: " + ", ".join(f"{count:,} {label}" for label, count in labels.items())
        for split, labels in data["counts"].items()
    )
    return f"""- Data: {data["source"]} ({counts}). {data["split"]}
- Left out: {data["left_out"]} files that could not be used, {data["duplicates"]} that stood on both sides.
- Weights: {weights["source"]}, sha256 `{weights["digest"][:16]}…`
- Recipe `{manifest["recipe"]["name"]}`, seed {manifest["seed"]}, trained on {manifest["device"]} with MXNet
  {manifest["software"]["mxnet"]}; `manifest.json` holds every setting and digest."""


def model_card(manifest: dict[str, Any]) -> str:
    """Markdown from a manifest."""
    about = f"class {manifest['positive']}" if manifest["positive"] else "the mean over all classes"
    notes = "".join(f"\n> {note}\n" for note in manifest["notes"])
    given = manifest["input"]
    mean, std = ([round(value, 3) for value in given[name]] for name in ("mean", "std"))
    return f"""# {manifest["name"]} {manifest["version"]}
{notes}
SqueezeNet 1.1 that tells apart: {", ".join(manifest["classes"])}. Published {manifest["created"]}.

{_table(metrics_rows(manifest["metrics"]))}

Precision, recall and F1 are about {about}. Whatever was chosen was chosen on validation.
{" ".join(_untested(manifest))}

**Champion:** {"yes" if manifest["promoted"] else "no"}. {manifest["why"]}

## Where it comes from

{_origin(manifest)}

## Use

    python -m cnn classify PICTURE

Input: the picture's shorter side resized to {given["short_side"]} px, the middle {given["crop"]} × {given["crop"]} px,
RGB, /255, mean {mean}, std {std}. Output: logits in the order of `classes.json`.
`squeezenet1_1.params` loads into `gluon.model_zoo.vision.squeezenet1_1(classes={len(manifest["classes"])})`,
`squeezenet1_1-symbol.json` with `squeezenet1_1-0000.params` into `gluon.SymbolBlock.imports`,
`squeezenet1_1.onnx` into onnxruntime.

## Limits

It knows only these classes and answers with one of them whatever the picture shows. Its figures hold for pictures
like those it was trained on.
"""
