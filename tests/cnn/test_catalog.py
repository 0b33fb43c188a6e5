"""The catalog's entries, and whether upstream still gives what they say."""

import re
from pathlib import Path

import pytest

from cnn.catalog import BUILTIN, DATASETS, WEIGHTS, CatalogFile
from cnn.downloads import obtain
from cnn.weights import read_weights

FILES = [
    *(file for files in WEIGHTS.values() for file in files),
    *(file for entry in DATASETS.values() for file in entry.files),
]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_file_has_a_whole_digest(file: CatalogFile) -> None:
    assert re.fullmatch({"sha1": "[0-9a-f]{40}", "sha256": "[0-9a-f]{64}"}[file.algorithm], file.digest)


@pytest.mark.network
@pytest.mark.parametrize("file", [*WEIGHTS["imagenet"][:2], *DATASETS["hotdog"].files], ids=lambda file: file.name)
def test_upstream_still_gives_the_file(file: CatalogFile, tmp_path: Path) -> None:
    path = obtain([file], tmp_path, None, "")
    assert file.size in (None, path.stat().st_size)


def test_the_built_in_weights_come_with_the_project(tmp_path: Path) -> None:
    path = obtain([BUILTIN], tmp_path, None, "")
    assert path.stat().st_size == BUILTIN.size and path.stat().st_size <= 1_500_000
    assert len(read_weights(path)) == 52
