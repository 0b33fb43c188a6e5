"""Ask a published model: python -m cnn classify PICTURE|URL|FOLDER …"""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import requests
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import CliPositionalArg, CliSubCommand

from cnn.backend import pick_devices
from cnn.classifier import Classifier
from cnn.commandline import parse, run
from cnn.downloads import is_url, why_failed
from cnn.errors import UserError
from cnn.files import printable
from cnn.parallel import in_groups, ordered_map
from cnn.pictures import NotAPictureError, center_view, decode, normalise
from cnn.plots import save_figure, seen_by_network
from cnn.publication import champion
from cnn.sources import picture_files

_TIMEOUT_SECONDS = 20
_BLOCK, _MAX_BYTES = 1 << 16, 1 << 27
_PICTURES_AT_ONCE = 16


class Classify(BaseModel):
    """Print the class and the probabilities of pictures."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pictures: CliPositionalArg[list[str]] = Field(
        description="picture files, http(s) addresses, or folders of pictures"
    )
    name: str | None = Field(None, description="which model; default: the only one, or hotdog")
    models: Path = Field(Path("artifacts"), description="folder of published models")
    as_json: bool = Field(False, alias="json", description="print one JSON object per picture")
    plot: Path | None = Field(None, description="save the (first) picture and what the network sees of it, as PNG")


class Commands(BaseModel):
    """Use what the pipeline published."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    classify: CliSubCommand[Classify]

    def run(self) -> None:
        """Do what was asked for."""
        assert self.classify  # the command line requires a command
        classify(self.classify)


def find_model(models: Path, name: str | None) -> Path:
    """The champion called ``name``; without a name the only one there is, or ``hotdog``.

    Raises:
        UserError: there is none, or no name says which of several.
    """
    published = sorted(file.parent.name for file in models.glob("*/champion.json"))
    if name is None:
        name = published[0] if len(published) == 1 else "hotdog"
    if name not in published:
        there = ", ".join(published) or "nothing; publish one with python flows/hotdog.py"
        raise UserError(f"{models}: no model {name!r} is published there; expected one of: {there}.")
    version = champion(models / name)
    assert version
    return version


def _read(place: str) -> bytes:
    """Bytes of a file or an address.

    Raises:
        UserError: it cannot be read.
    """
    try:
        if not is_url(place):
            return Path(place).read_bytes()
        with requests.get(place, timeout=_TIMEOUT_SECONDS, stream=True) as response:
            response.raise_for_status()
            blocks = response.iter_content(_BLOCK)
            return b"".join(islice(blocks, _MAX_BYTES // _BLOCK))
    except OSError as error:
        raise UserError(f"{place}: cannot be read: {why_failed(error)}.") from error


def _places(arguments: list[str]) -> Iterator[str]:
    for argument in arguments:
        folder = Path(argument)
        if folder.is_dir():
            yield from (str(folder / name) for name in picture_files(folder))
        else:
            yield argument


def open_picture(place: str) -> Image.Image:
    """A picture as the training data has it: upright RGB, shorter side at most 512 px.

    Raises:
        UserError: it cannot be read or is not a picture.
    """
    try:
        return decode(normalise(_read(place))[1])
    except NotAPictureError as error:
        raise UserError(f"{place}: {error}; expected a picture.") from error


def _open_or_explain(place: str) -> tuple[str, Image.Image | None, str]:
    try:
        return place, open_picture(place), ""
    except UserError as error:
        return place, None, str(error)


def _caption(probabilities: dict[str, float]) -> str:
    """The answer and how sure it is, in words.

    >>> _caption({"cat": 0.25, "dog": 0.75})
    'dog (cat 25.0%, dog 75.0%)'
    """
    answer = max(probabilities, key=probabilities.__getitem__)
    return f"{answer} ({', '.join(f'{label} {share:.1%}' for label, share in probabilities.items())})"


def _line(place: str, probabilities: dict[str, float], as_json: bool) -> str:
    answer = max(probabilities, key=probabilities.__getitem__)
    if as_json:
        return json.dumps({"picture": place, "class": answer, "probabilities": probabilities})
    return f"{printable(place)}: {_caption(probabilities)}"


def classify(settings: Classify) -> None:
    """Print an answer for each picture.

    Raises:
        UserError: some could not be read; the others have been answered.
    """
    classifier = Classifier.load(find_model(settings.models, settings.name), pick_devices("cpu"))
    failures, plot = [], settings.plot
    places = list(_places(settings.pictures))
    if not places:
        raise UserError(f"{', '.join(settings.pictures)}: there are no files; name pictures or a folder of them.")
    for group in in_groups(ordered_map(_open_or_explain, places), _PICTURES_AT_ONCE):
        failures += [why for _, picture, why in group if picture is None]
        opened = [(place, picture, center_view(picture, classifier.input)) for place, picture, _ in group if picture]
        answers = classifier.answers(crop for _, _, crop in opened)
        for (place, picture, crop), shares in zip(opened, answers, strict=True):
            probabilities = dict(zip(classifier.classes, map(float, shares), strict=True))
            print(_line(place, probabilities, settings.as_json))
            if plot:
                save_figure(seen_by_network(picture, crop, _caption(probabilities)), plot)
                plot = None
    if failures:
        raise UserError(printable(" ".join(failures)))


if __name__ == "__main__":
    run(lambda: parse(Commands).run())
