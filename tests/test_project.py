"""What holds for the project as a whole: who imports whom, how long things are, that it runs without Prefect."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, write_images
from PIL import Image

from cnn.networks.initializers import random_parameters
from cnn.support.backend import mx

ROOMS = ("cnn", "tasks", "flows")
#: Sub-packages of cnn, in the order in which they may know of one another: only of those before them.
INNER_ROOMS = ("support", "data", "networks", "training", "evaluation", "publication", "serving", "commands")
MODULES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
MAX_MODULE_LINES, MAX_FUNCTION_LINES = 300, 40
#: Words that are odd, poetic or not the field's.
WORDS = ("picture", "chance", "told", "brought", "cannot be had", "hears of", "is no more", "go on")
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> set[str]:
    """Dotted names of all that a file imports, at any depth: modules, and names in them."""
    found, package = set(), path.relative_to(ROOT).parent.parts
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) + 1 - node.level] if node.level else ()
            base = ".".join([*parents, *filter(None, [node.module])])
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return found


def roots(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}


def inner_room(place: str | Path) -> int:
    """Number of the sub-package of cnn that a dotted name or a file is in; the last for what is in none."""
    parts = place.split(".") if isinstance(place, str) else place.relative_to(ROOT).parts
    return INNER_ROOMS.index(parts[1]) if len(parts) > 1 and parts[1] in INNER_ROOMS else len(INNER_ROOMS)


# ---- who imports whom


def test_rooms_import_downwards_only() -> None:
    above = {"cnn": {"tasks", "flows", "prefect"}, "tasks": {"flows"}, "flows": set()}
    for path in MODULES:
        room, *_ = path.relative_to(ROOT).with_suffix("").parts
        assert not roots(path) & {*above[room], "tests", "benchmarks"}, path
        if room == "cnn":
            upwards = [
                name for name in imports(path) if name.startswith("cnn.") and inner_room(name) > inner_room(path)
            ]
            assert not upwards, path


def test_every_folder_of_cnn_is_a_room() -> None:
    folders = {path.name for path in (ROOT / "cnn").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(INNER_ROOMS)


def test_mxnet_is_imported_through_the_backend() -> None:
    found = set()
    for path in MODULES:
        assert "mxnet" not in roots(path), path
        calls = (node for node in ast.walk(parse(path)) if isinstance(node, ast.Call))
        loaded = [call for call in calls if ast.unparse(call.func).endswith(("import_module", "__import__"))]
        found |= {path for call in loaded if "mxnet" in ast.unparse(call)}
    assert found == {ROOT / "cnn" / "support" / "backend.py"}


def python(code: str, folder: Path = ROOT) -> str:
    """What a program prints; it can import the project from any folder."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_no_module_uses_mxnet_on_import() -> None:
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in MODULES]
    code = "\n".join(["import sys", *(f"import {name}" for name in names), "print('mxnet' in sys.modules)"])
    assert python(code) == "False\n"


# ---- how long things are, and what they say


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(parse(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_modules_and_functions_are_short() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert not [path for path, length in lengths.items() if length > MAX_MODULE_LINES]
    for path in MODULES:
        long = [each.name for each in functions(path) if (each.end_lineno or 0) - each.lineno >= MAX_FUNCTION_LINES]
        assert not long, path


def test_what_is_public_has_a_docstring() -> None:
    for path in MODULES:
        tree = parse(path)
        public = [node for node in tree.body if isinstance(node, Definition) and not node.name.startswith("_")]
        assert not [node for node in (tree, *public) if not ast.get_docstring(node)], path


def test_words_are_the_fields() -> None:
    for path in MODULES:
        text = path.read_text(encoding="utf-8").lower()
        assert not [word for word in WORDS if re.search(rf"\b{word}s?\b", text)], path


def test_text_files_are_utf_8() -> None:
    for path in MODULES:
        calls = (node for node in ast.walk(parse(path)) if isinstance(node, ast.Call))
        for call in calls:
            if ast.unparse(call.func).endswith((".read_text", ".write_text")):
                assert "encoding" in {keyword.arg for keyword in call.keywords}, f"{path}:{call.lineno}"


# ---- how it is tested and installed


def test_doctests_of_all_rooms_run() -> None:
    options = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]["ini_options"]
    assert {"tests", *ROOMS, "benchmarks"} <= set(options["testpaths"])
    assert "--doctest-modules" in options["addopts"]


def test_ci_runs_the_readmes_test_line() -> None:
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    line = next(line for line in lines if "-m pytest" in line)
    assert line in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["cpu", "gpu", "dev"])
def test_requirements_are_pinned_with_hashes(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    entries = [entry for entry in re.split(r"\n(?=\S)", text) if not entry.startswith("#")]
    assert entries
    for entry in entries:
        assert re.match(r"[\w.-]+(\[[\w,]+\])?==\S+ ", entry) and "--hash=sha256:" in entry, entry
    assert "://" not in text and "--index" not in text


# ---- from a Python prompt, where Prefect is not installed

WITHOUT_PREFECT = "import sys\nsys.modules['prefect'] = None\n"


def test_cnn_is_usable_without_prefect() -> None:
    code = f"""{WITHOUT_PREFECT}
import cnn
print('mxnet' in sys.modules)
for name in cnn.__all__:
    assert getattr(cnn, name).__name__ == name and name in dir(cnn)
import cnn.__main__
print(*cnn.__all__)
"""
    loaded, names = python(code).splitlines()
    assert loaded == "False"
    assert {"prepare", "transfer", "train_from_scratch", "evaluate", "publish", "Predictor"} <= set(names.split())


def test_readme_example_runs_without_prefect(tmp_path: Path) -> None:
    examples = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    if not examples:
        pytest.skip("the README has no Python example")
    (example,) = examples
    write_images(tmp_path / "my_photos" / "train", 4)
    write_images(tmp_path / "my_photos" / "validation", 2, first=100)
    write_images(tmp_path / "lunch", 1, first=200, labels=("hotdog",))
    Image.open(tmp_path / "lunch" / "hotdog" / "0200.jpg").save(tmp_path / "lunch.jpg")
    arrays = {name: mx.nd.array(values.astype(np.float32)) for name, values in random_parameters(seed=0).items()}
    mx.nd.save(str(tmp_path / "squeezenet1_1.params"), arrays)
    printed = python(WITHOUT_PREFECT + example, tmp_path)
    shares = ast.literal_eval(printed.splitlines()[-1])
    assert set(shares) == {"hotdog", "not_hotdog"} and sum(shares.values()) == pytest.approx(1, abs=1e-5)
