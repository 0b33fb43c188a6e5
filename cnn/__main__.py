"""Use what the pipeline published, and tidy up: python -m cnn classify IMAGE|URL|FOLDER …, python -m cnn clean."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

from PIL import Image

from cnn.data.decoding import NotAnImageError
from cnn.data.images import center_view
from cnn.data.sources.source import MAX_BYTES
from cnn.data.transfers import FAILURES, describe_failure, download, is_url
from cnn.evaluation.classifier import open_image
from cnn.evaluation.plots import save_figure, seen_by_network
from cnn.publication.champions import find_champion
from cnn.publication.versions import load_version
from cnn.support.commandline import run
from cnn.support.errors import UserError
from cnn.support.files import folder_size, read_file
from cnn.support.listing import visible_files
from cnn.support.parallel import in_groups, ordered_map
from cnn.support.places import given_path
from cnn.support.store import unreachable
from cnn.support.text import printable

_SECONDS_PER_ADDRESS = 60.0
_IMAGES_AT_ONCE = 16


@dataclass(frozen=True)
class _Place:
    """A file or an address that may be an image, or why there is nothing to open."""

    name: str
    problem: str = ""


def _path(text: str) -> Path:
    try:
        return given_path(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}") from error


def parser() -> argparse.ArgumentParser:
    """What the command line may say; the arguments that are files or addresses are taken as they are."""
    found = argparse.ArgumentParser("python -m cnn", description=__doc__, allow_abbrev=False)
    commands = found.add_subparsers(dest="command", metavar="classify|clean")

    does = "print the class and the probabilities of images"
    command = commands.add_parser("classify", help=does, description=does, allow_abbrev=False)
    command.add_argument("images", nargs="+", help="image files, http(s) addresses, or folders of images")
    command.add_argument("--name", help="which model; default: the only one, or hotdog")
    command.add_argument("--models", type=_path, default=Path("artifacts"), help="folder of published models")
    command.add_argument("--json", action="store_true", help="print one JSON object per image")
    command.add_argument("--plot", type=_path, help="save the (first) image and what the network sees of it, as PNG")

    does = "list what no run of the present code with the present data uses in the store any more, or delete it"
    command = commands.add_parser("clean", help=does, description=does, allow_abbrev=False)
    command.add_argument(
        "--store", type=_path, default=Path(".cache"), help="folder of the flows' intermediate results"
    )
    command.add_argument("--delete", action="store_true", help="delete it; without this, it is only listed")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that was given, by default by this program's arguments.

    Raises:
        UserError: none was given, or it cannot do what was asked.
        SystemExit: an unknown flag, or ``--help``.
    """
    given = parser().parse_args(sys.argv[1:] if arguments is None else arguments)
    if given.command == "classify":
        classify(given.images, models=given.models, name=given.name, as_json=given.json, plot=given.plot)
    elif given.command == "clean":
        clean(given.store, delete=given.delete)
    else:
        raise UserError("expected a command, found none: python -m cnn classify or python -m cnn clean.")


def _places(arguments: Sequence[str]) -> Iterator[_Place]:
    for argument in arguments:
        if not argument:
            yield _Place(argument, "an empty name: expected a file, an address or a folder")
        elif is_url(argument):
            yield _Place(argument)
        else:
            yield from _local(Path(argument), argument)


def _local(path: Path, argument: str) -> Iterator[_Place]:
    """A file, or those in a folder."""
    try:
        names = visible_files(path) if path.is_dir() else None
    except OSError as error:
        yield _Place(argument, f"cannot be read: {describe_failure(error)}")
        return
    if names is None:
        yield _Place(argument)
    else:
        yield from (_Place(str(path / name)) for name in names)


def _open(place: _Place) -> tuple[str, Image.Image | None, str]:
    """An image by its place, or why it cannot be opened."""
    if place.problem:
        return place.name, None, f"{place.name}: {place.problem}."
    try:
        if is_url(place.name):
            data = download(place.name, limit=MAX_BYTES, seconds=_SECONDS_PER_ADDRESS)
        else:
            data = read_file(Path(place.name), MAX_BYTES)
        return place.name, open_image(data), ""
    except NotAnImageError as error:
        return place.name, None, f"{place.name}: {error}; expected an image."
    except (OSError, *FAILURES) as error:
        return place.name, None, f"{place.name}: cannot be read: {describe_failure(error)}."


def _caption(probabilities: dict[str, float]) -> str:
    """The most probable class, and the probability of each.

    >>> _caption({"cat": 0.25, "dog": 0.75})
    'dog (cat 25.0%, dog 75.0%)'
    """
    predicted = max(probabilities, key=probabilities.__getitem__)
    return f"{predicted} ({', '.join(f'{label} {share:.1%}' for label, share in probabilities.items())})"


def _line(place: str, probabilities: dict[str, float], as_json: bool) -> str:
    if as_json:
        predicted = max(probabilities, key=probabilities.__getitem__)
        return json.dumps({"image": place, "class": predicted, "probabilities": probabilities})
    return printable(f"{place}: {_caption(probabilities)}")


def classify(
    images: Sequence[str], *, models: Path, name: str | None = None, as_json: bool = False, plot: Path | None = None
) -> None:
    """Print a prediction for each image: of files, of http(s) addresses, and of all files in folders.

    Raises:
        UserError: some could not be read; the others have been classified.
    """
    classifier = load_version(find_champion(models, name))
    failures, places = [], list(_places(images))
    if not places:
        raise UserError(f"{', '.join(images)}: there are no files; name images or a folder of them.")
    for group in in_groups(ordered_map(_open, places), _IMAGES_AT_ONCE):
        failures += [reason for _, image, reason in group if image is None]
        opened = [(place, image, center_view(image, classifier.preprocessing)) for place, image, _ in group if image]
        predictions = classifier.predict(crop for _, _, crop in opened)
        for (place, image, crop), shares in zip(opened, predictions, strict=True):
            probabilities = dict(zip(classifier.classes, map(float, shares), strict=True))
            print(_line(place, probabilities, as_json))
            if plot:
                save_figure(seen_by_network(image, crop, _caption(probabilities)), plot)
                plot = None
    if failures:
        raise UserError(printable(" ".join(failures)))


def clean(store: Path, *, delete: bool = False) -> None:
    """List or delete what is of no more use in a store, with its size and the reason.

    Raises:
        UserError: there is no such folder.
    """
    if not store.is_dir():
        raise UserError(f"store {store}: there is no such folder; name the one that the flows used.")
    total = 0
    for path, reason in unreachable(store.absolute()):
        size = folder_size(path)
        total += size
        print(f"{size / 1e6:>10.1f} MB  {printable(str(path))}: {reason}")
        if delete:
            rmtree(path) if path.is_dir() else path.unlink()
    print(f"{total / 1e6:>10.1f} MB in all{' deleted' if delete else '; to delete this, add --delete'}")


if __name__ == "__main__":
    run(main)
