"""Use what the pipeline published, and tidy up: python -m cnn classify IMAGE|URL|FOLDER …, python -m cnn clean."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from shutil import rmtree

import requests
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import CliPositionalArg, CliSubCommand

from cnn.data.downloads import describe_failure, is_url
from cnn.data.images import NotAnImageError, center_view
from cnn.data.sources import image_files
from cnn.evaluation.classifier import open_image
from cnn.evaluation.plots import save_figure, seen_by_network
from cnn.publication.versions import find_champion, load_version
from cnn.support.commandline import parse, run
from cnn.support.errors import UserError
from cnn.support.files import folder_size, printable
from cnn.support.parallel import in_groups, ordered_map
from cnn.support.store import unreachable

_TIMEOUT_SECONDS = 20
_BLOCK, _MAX_BYTES = 1 << 16, 1 << 27
_IMAGES_AT_ONCE = 16


class _Command(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Classify(_Command):
    """Print the class and the probabilities of images."""

    images: CliPositionalArg[list[str]] = Field(description="image files, http(s) addresses, or folders of images")
    name: str | None = Field(None, description="which model; default: the only one, or hotdog")
    models: Path = Field(Path("artifacts"), description="folder of published models")
    as_json: bool = Field(False, alias="json", description="print one JSON object per image")
    plot: Path | None = Field(None, description="save the (first) image and what the network sees of it, as PNG")


class Clean(_Command):
    """List what no run of the present code with the present data uses in the store any more, or delete it."""

    store: Path = Field(Path(".cache"), description="folder that the flows keep their intermediate results in")
    delete: bool = Field(False, description="delete it; without this, it is only listed")


class Commands(_Command):
    """Use what the pipeline published, and tidy up."""

    classify: CliSubCommand[Classify]
    clean: CliSubCommand[Clean]

    def run(self) -> None:
        """Run the command that was given.

        Raises:
            UserError: none was given, or it cannot do what was asked.
        """
        if self.classify:
            classify(self.classify)
        elif self.clean:
            clean(self.clean)
        else:
            raise UserError("expected a command, found none: python -m cnn classify or python -m cnn clean.")


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
        raise UserError(f"{place}: cannot be read: {describe_failure(error)}.") from error


def _places(arguments: list[str]) -> Iterator[str]:
    for argument in arguments:
        folder = Path(argument)
        if folder.is_dir():
            yield from (str(folder / name) for name in image_files(folder))
        else:
            yield argument


def _open(place: str) -> tuple[str, Image.Image | None, str]:
    """An image by its place, or why it cannot be opened."""
    try:
        return place, open_image(_read(place)), ""
    except NotAnImageError as error:
        return place, None, f"{place}: {error}; expected an image."
    except UserError as error:
        return place, None, str(error)


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
    return f"{printable(place)}: {_caption(probabilities)}"


def classify(settings: Classify) -> None:
    """Print a prediction for each image.

    Raises:
        UserError: some could not be read; the others have been classified.
    """
    classifier = load_version(find_champion(settings.models, settings.name))
    failures, plot = [], settings.plot
    places = list(_places(settings.images))
    if not places:
        raise UserError(f"{', '.join(settings.images)}: there are no files; name images or a folder of them.")
    for group in in_groups(ordered_map(_open, places), _IMAGES_AT_ONCE):
        failures += [reason for _, image, reason in group if image is None]
        opened = [(place, image, center_view(image, classifier.preprocessing)) for place, image, _ in group if image]
        predictions = classifier.predict(crop for _, _, crop in opened)
        for (place, image, crop), shares in zip(opened, predictions, strict=True):
            probabilities = dict(zip(classifier.classes, map(float, shares), strict=True))
            print(_line(place, probabilities, settings.as_json))
            if plot:
                save_figure(seen_by_network(image, crop, _caption(probabilities)), plot)
                plot = None
    if failures:
        raise UserError(printable(" ".join(failures)))


def clean(settings: Clean) -> None:
    """List or delete what is of no more use in a store, with its size and the reason.

    Raises:
        UserError: there is no such folder.
    """
    if not settings.store.is_dir():
        raise UserError(f"store {settings.store}: there is no such folder; name the one that the flows used.")
    total = 0
    for path, reason in unreachable(settings.store.absolute()):
        size = folder_size(path)
        total += size
        print(f"{size / 1e6:>10.1f} MB  {path}: {reason}")
        if settings.delete:
            rmtree(path) if path.is_dir() else path.unlink()
    print(f"{total / 1e6:>10.1f} MB in all{' deleted' if settings.delete else '; to delete this, add --delete'}")


if __name__ == "__main__":
    run(lambda: parse(Commands).run())
