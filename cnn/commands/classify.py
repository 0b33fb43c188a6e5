"""``python -m cnn classify``: the class of images, answered by a published model."""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from cnn.commands.arguments import Commands, add_command, add_model, add_provider, as_path
from cnn.data.decoding import MAX_BYTES, NotAnImageError
from cnn.data.images import keep_decoded
from cnn.data.transfers import FAILURES, describe_failure, download, is_url
from cnn.evaluation.answers import Answer
from cnn.evaluation.figures import save_figure, seen_by_network
from cnn.serving.predictor import Predictor
from cnn.support.errors import UserError
from cnn.support.files import read_file
from cnn.support.listing import visible_files
from cnn.support.parallel import in_groups, ordered_map
from cnn.support.text import printable

_SECONDS_PER_ADDRESS = 60.0
_IMAGES_AT_ONCE = 16
_NOVEL = "; unlike anything it was trained on"


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    command = add_command(commands, "classify", "print the class and the probabilities of images", _run)
    command.add_argument("images", nargs="+", help="image files, http(s) addresses, or folders of images")
    add_model(command)
    add_provider(command)
    command.add_argument("--json", action="store_true", help="print one JSON object per image")
    command.add_argument(
        "--plot", type=as_path, help="save the (first) image, what the network sees of it and where, as PNG"
    )


def _run(given: argparse.Namespace) -> None:
    predictor = Predictor.champion(given.models, given.name, given.provider, given.int8)
    classify(given.images, predictor, as_json=given.json, plot=given.plot)


@dataclass(frozen=True)
class _Place:
    """A file or an address that may be an image, or why there is nothing to open."""

    name: str
    problem: str = ""


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
        return place.name, keep_decoded(data), ""
    except NotAnImageError as error:
        return place.name, None, f"{place.name}: {error}; expected an image."
    except (OSError, *FAILURES) as error:
        return place.name, None, f"{place.name}: cannot be read: {describe_failure(error)}."


def _caption(answer: Answer) -> str:
    """The predicted class, the probability of each, and whether the image is unlike all that is known.

    >>> import numpy as np
    >>> _caption(Answer(("cat", "dog"), np.array([0.25, 0.75]), 1, novel=True))
    'dog (cat 25.0%, dog 75.0%); unlike anything it was trained on'
    """
    shares = ", ".join(f"{label} {share:.1%}" for label, share in answer.by_class.items())
    return f"{answer.label} ({shares}){_NOVEL if answer.novel else ''}"


def _line(place: str, answer: Answer, as_json: bool) -> str:
    if as_json:
        known = {"image": place, "class": answer.label, "probabilities": answer.by_class, "novel": answer.novel}
        return json.dumps(known)
    return printable(f"{place}: {_caption(answer)}")


def classify(images: Sequence[str], predictor: Predictor, *, as_json: bool = False, plot: Path | None = None) -> None:
    """Print a prediction for each image: of files, of http(s) addresses, and of all files in folders.

    Raises:
        UserError: some could not be read; the others have been classified.
    """
    failures, places = [], list(_places(images))
    if not places:
        raise UserError(f"{', '.join(images)}: there are no files; name images or a folder of them.")
    for group in in_groups(ordered_map(_open, places), _IMAGES_AT_ONCE):
        failures += [reason for _, image, reason in group if image is None]
        opened = [(place, image, predictor.view(image)) for place, image, _ in group if image]
        answers = predictor.answer(crop for _, _, crop in opened)
        for (place, image, crop), answer in zip(opened, answers, strict=True):
            print(_line(place, answer, as_json))
            if plot:
                save_figure(seen_by_network(image, crop, _caption(answer), answer.evidence), plot)
                plot = None
    if failures:
        raise UserError(printable(" ".join(failures)))
