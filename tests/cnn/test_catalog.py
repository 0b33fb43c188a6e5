"""The catalog's entries, and whether upstream still gives what they say."""

import re
from pathlib import Path

import pytest

from cnn.catalog import DATASETS, IMAGENET_WEIGHTS, CatalogFile
from cnn.downloads import obtain

FILES = [*IMAGENET_WEIGHTS, *(file for entry in DATASETS.values() for file in entry.files)]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_file_has_a_whole_digest(file: CatalogFile) -> None:
    assert re.fullmatch({"sha1": "[0-9a-f]{40}", "sha256": "[0-9a-f]{64}"}[file.algorithm], file.digest)


@pytest.mark.network
@pytest.mark.parametrize("file", [*IMAGENET_WEIGHTS[:2], *DATASETS["hotdog"].files], ids=lambda file: file.name)
def test_upstream_still_gives_the_file(file: CatalogFile, tmp_path: Path) -> None:
    path = obtain([file], tmp_path, None, "")
    assert file.size in (None, path.stat().st_size)
