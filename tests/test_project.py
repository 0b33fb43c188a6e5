"""What holds for the project as a whole."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def imports(path: Path) -> set[str]:
    """First names of all modules that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    return found


@pytest.mark.parametrize(("room", "never"), [("cnn", {"prefect", "tasks", "flows"}), ("tasks", {"flows"})])
def test_the_rooms_import_downwards_only(room: str, never: set[str]) -> None:
    for path in (ROOT / room).glob("*.py"):
        assert not imports(path) & never, path


def test_mxnet_is_imported_in_one_place() -> None:
    found = [path.name for room in ("cnn", "tasks", "flows") for path in (ROOT / room).glob("*.py")]
    assert [name for name in found if (ROOT / "cnn" / name).exists() and "mxnet" in imports(ROOT / "cnn" / name)] == [
        "backend.py"
    ]


def test_ci_runs_the_readmes_test_line() -> None:
    line = next(line for line in (ROOT / ".ci" / "run").read_text().splitlines() if "-m pytest" in line)
    assert line in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", ["cpu", "gpu", "dev"])
def test_every_requirement_is_pinned_with_hashes_and_without_addresses(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    entries = [entry for entry in re.split(r"\n(?=\S)", text) if not entry.startswith("#")]
    assert entries
    for entry in entries:
        assert re.match(r"[\w.-]+(\[[\w,]+\])?==\S+ ", entry) and "--hash=sha256:" in entry, entry
    assert "://" not in text and "--index" not in text
