"""Inventory: the published models in a folder, which of their versions are whole, and which may be deleted."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import rmtree
from typing import Any

from cnn.publication.champions import champion, former_champion, standing_champion
from cnn.publication.exchange import withdraw
from cnn.publication.manifest import Manifest, open_manifest, versions
from cnn.publication.model_card import published_at
from cnn.publication.records import MANIFEST_FILE
from cnn.publication.versions import Served, altered_files, version_folders
from cnn.support.errors import UserError
from cnn.support.files import abandoned, folder_size


def find_version(folder: Path, name: str) -> Path:
    """The version called ``name`` in a model's folder.

    Raises:
        UserError: there is no such version; names those that there are.
    """
    found = {path.name: path for path in version_folders(folder)}
    if name not in found:
        raise UserError(f"{folder.name} {name}: there is no such version; expected one of: {', '.join(found)}.")
    return found[name]


def problems(version: Path) -> list[str]:
    """In which ways a version does not match its manifest; empty if it is whole."""
    try:
        manifest = Manifest.open(version)
    except ValueError as error:
        return [" ".join(str(error).split())]
    unlisted = {path.name for path in version.iterdir()} - {MANIFEST_FILE, *manifest.files}
    return [
        *(
            f"{name} {'was altered' if (version / name).is_file() else 'is missing'}"
            for name in altered_files(version, manifest.files)
        ),
        *(
            f"{name} is not in the manifest"
            for name in sorted({*Served.open(version).names} - {*manifest.files} | unlisted)
        ),
    ]


def facts(version: Path) -> dict[str, Any]:
    """What a version's manifest says, for people: by title.

    Raises:
        UserError: its manifest cannot be read.
    """
    manifest = open_manifest(version)
    data, weights, judgement = manifest.lineage.data, manifest.lineage.weights, manifest.judgement
    found = problems(version)
    counts = (f"{split} {sum(of_class.values()):,}" for split, of_class in data.counts.items())
    return {
        "published": published_at(manifest),
        "decision": manifest.reason,
        **({"judged by": f"{judgement.rule}, margin {judgement.margin:g}"} if judgement else {}),
        "classes": ", ".join(manifest.classes),
        **{
            split: ", ".join(f"{name} {value}" for name, value in metrics.rows())
            for split, metrics in manifest.metrics.items()
        },
        "outlook": manifest.outlook,
        "data": f"{data.source} {data.place}".strip(),
        "images": ", ".join(counts),
        "weights": weights.source if weights else "random",
        "recipe": f"{manifest.lineage.recipe}, seed {manifest.lineage.seed}, {manifest.lineage.device}",
        "notes": " ".join(manifest.lineage.notes),
        "software": ", ".join(f"{name} {version}" for name, version in manifest.software.items()),
        "size": f"{folder_size(version) / 1e6:.1f} MB",
        "files": "; ".join(found) or "as they were published",
    }


def prunable(folder: Path, keep: int, keep_days: float, now: datetime | None = None) -> list[Path]:
    """Versions of a model that may be deleted, oldest first.

    Never among them: the champion and the one before it, to which a rollback leads; the ``keep`` newest; what was
    published in the last ``keep_days`` days before ``now``; and what cannot be read.

    Args:
        keep: 1 or more: the number of the newest version must not be used again.

    Raises:
        UserError: it is not known which version is the champion.
    """
    best, former = champion(folder) or standing_champion(folder), former_champion(folder)
    kept, limit = {best, former and former[0]}, (now or datetime.now(UTC)) - timedelta(days=keep_days)
    older = list(versions(folder).items())[:-keep]
    return [path for path, found in older if path not in kept and datetime.fromisoformat(found.created) < limit]


def prune(folder: Path, chosen: Sequence[Path]) -> None:
    """Delete versions, each in one step, and what a deletion or a publication that was killed left."""
    for version in chosen:
        withdraw(version, MANIFEST_FILE)
        version.rename(version.with_name(f".{version.name}.deleted.tmp"))
    for left in abandoned(folder, ".*"):
        rmtree(left) if left.is_dir() else left.unlink()
