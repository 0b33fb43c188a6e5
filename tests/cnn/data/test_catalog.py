"""The catalog's entries, and whether their publishers still have the files."""

import re
from pathlib import Path

import pytest

from cnn.data.catalog import BUILTIN, DATASETS, WEIGHTS, CatalogFile
from cnn.data.downloads import fetch
from cnn.networks.weights import read_weights

FILES = [file for files in (*WEIGHTS.values(), *DATASETS.values()) for file in files]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_digest_is_complete(file: CatalogFile) -> None:
    assert re.fullmatch({"sha1": "[0-9a-f]{40}", "sha256": "[0-9a-f]{64}"}[file.algorithm], file.digest)


@pytest.mark.network
@pytest.mark.parametrize("file", [*WEIGHTS["imagenet"][:2], *DATASETS["hotdog"]], ids=lambda file: file.name)
def test_file_is_still_published(file: CatalogFile, tmp_path: Path) -> None:
    path = fetch([file], tmp_path, None, "")
    assert file.size in (None, path.stat().st_size)


def test_builtin_weights_come_with_the_project(tmp_path: Path) -> None:
    path = fetch([BUILTIN], tmp_path, None, "")
    assert path.stat().st_size == BUILTIN.size and path.stat().st_size <= 1_500_000
    assert len(read_weights(path)) == 52
