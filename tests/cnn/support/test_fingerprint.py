"""What changes a fingerprint and what does not, on a small project in rooms."""

import ast
import importlib.metadata
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_project import FILES, TASK, code_base

from cnn.support.files import text_digest
from cnn.support.fingerprint import PROJECT, CodeBase, fingerprint_function

CORE, NEAR = "pkg/rooms/core.py", "pkg/rooms/near.py"

#: Name → file, text in it, other text: these must change the key.
CHANGES = {
    "function": (CORE, "RATE * size", "RATE + size"),
    "constant": (CORE, "RATE: float = 0.1", "RATE: float = 0.2"),
    "default argument": (CORE, "size: int = 224", "size: int = 256"),
    "decorator's code": (CORE, "    return function\n", "    return function or None\n"),
    "decorator": (CORE, "@decorate\n", ""),
    "method": (CORE, "self.width**2", "self.width**3"),
    "annotation in a class": (CORE, "width: int", "width: float"),
    "class annotated in a class": (CORE, 'name = "owner"', 'name = "holder"'),
    "function in a dict": (CORE, "getattr(whole", "getattr(whole or None"),
    "condition of an import": (CORE, "if CONDITION:", "if not CONDITION:"),
    "condition's constant": ("pkg/conditions.py", "True", "False"),
    "statement on import": (NEAR, "REGISTRY['key'] =", "REGISTRY['lock'] ="),
    "function registered on import": (NEAR, "x + 1", "x + 3"),
    "import of a name": ("pkg/named.py", "x + 1", "x + 2"),
    "import of a dotted module": ("pkg/dotted.py", "x + 1", "x + 2"),
    "import of a module as": ("pkg/aliased.py", "a, b = 1", "a, b = 2"),
    "import of a module that is passed on": ("pkg/whole.py", "x + 1", "x + 2"),
    "import of a module that is looked at": ("pkg/looked_at.py", "x = 1", "x = 2"),
    "import of *": ("pkg/stars.py", "x + 1", "x + 2"),
    "import behind a re-export": ("pkg/behind.py", "x + 1", "x + 2"),
    "import of a sibling": ("pkg/rooms/sibling.py", "x + 1", "x + 2"),
    "import from two levels above": ("pkg/deep/leaf.py", "x + 1", "x + 2"),
    "import under if": ("pkg/conditional.py", "x + 1", "x + 2"),
    "import under try": ("pkg/tried.py", "x + 1", "x + 2"),
    "import in a function": ("pkg/late.py", "x + 1", "x + 2"),
    "import of a module in a function": ("pkg/later.py", "x + 1", "x + 2"),
    "what a name stands for": (CORE, "helper as renamed, other", "helper as other, other as renamed"),
    "what a library's name stands for": (CORE, "import numpy as np", "import numpy.linalg as np"),
    "what a task's helper calls": ("pkg/sources.py", "x + 1", "x + 2"),
    "class of a task's input": ("pkg/inputs.py", "2 * self.size", "3 * self.size"),
    "code that a task calls": ("tasks/work.py", "prepare(run, image)", "run(image)"),
    "error that is raised": (CORE, 'raise UserError("too small")', 'raise ValueError("too small")'),
    "number passed to progress": (CORE, "track(image,", "track(image, 3,"),
}
#: And these must not.
NO_CHANGES = {
    "comment": (CORE, "# a comment", "# another"),
    "docstring of a function": (CORE, '"""Run."""', '"""Execute."""'),
    "docstring of a class": (CORE, '    """A model."""\n', ""),
    "docstring of a module": (CORE, '"""What the task calls."""', '"""The core."""'),
    "formatting": (CORE, 'table = {"first": first}', "table = (\n        {'first': first,}\n    )"),
    "log": (CORE, 'logger.info("running %s", image)', 'logger.warning("%s runs", unreached(image))'),
    "print": (CORE, '    print("to the terminal")\n', ""),
    "warning": (CORE, '"warned"', '"cautioned"'),
    "condition of a log": (CORE, '    if image is None:\n        logger.debug("there is no image")\n', ""),
    "message of an assertion": (CORE, ', "there is no size"', ""),
    "message": (CORE, '"too small"', 'f"too small by {1 - size}"'),
    "cause of an error": (CORE, " from None", ""),
    "message in a variable": (CORE, "of {size} {unit}", "that is {size}"),
    "message extended in a variable": (CORE, '    detail += " or so"\n', ""),
    "part of a message in a variable": (CORE, '"px"', '", ".join(["pixels", "px"])'),
    "message in a constant": (CORE, '"no {}"', '"never {}"'),
    "message in a helper": (CORE, "{size} is {text}", "{text}: {size}"),
    "variable in a helper": (CORE, "an unlucky number", "a number of bad luck"),
    "text passed to progress": (CORE, '"reading " + "images"', '"reading"'),
    "named text passed to progress": (CORE, 'unit=f"image {size}"', 'unit="px"'),
    "description": (CORE, '"how wide"', '"its width"'),
    "annotation of an argument": (CORE, "size: int", "size: float"),
    "annotation of a result": (CORE, "def area(self):", "def area(self) -> int:"),
    "annotation of a variable": (CORE, "total: int", "total"),
    "annotation of a constant": (CORE, "RATE: float", "RATE"),
    "unreached function": (CORE, "expit(0)", "expit(1)"),
    "unreached constant": (CORE, "UNUSED = 7", "UNUSED = 8"),
    "unreached function of a module": ("pkg/dotted.py", "x - 1", "x - 2"),
    "unreached function of a sibling": ("pkg/rooms/sibling.py", "x - 1", "x - 2"),
    "unreached function behind *": ("pkg/stars.py", "x - 1", "x - 2"),
    "unreached constant of a module": ("pkg/aliased.py", "c = 3", "c = 4"),
    "unreached module": ("pkg/unused.py", "x + 1", "x + 2"),
    "package around a module": ("pkg/deep/__init__.py", "[]", "[1]"),
    "support": ("pkg/support/files.py", "yaml.dump(x)", "yaml.dump([x])"),
    "error's class": ("pkg/support/errors.py", "status = 1", "status = 2"),
    "text in a task": ("tasks/work.py", '@step("work")', '@step("toil")'),
    "code of a task": ("tasks/work.py", "    return prepare", "    image = image or 3\n    return prepare"),
    "task's machinery": ("tasks/machinery.py", "return other", "return other or None"),
    "task's decorator": ("pkg/named.py", "x - 1", "x - 2"),
}


@pytest.fixture(scope="module", autouse=True)
def _versions() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.metadata, "version", lambda name: f"{name} 1")
        yield


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The fingerprint of the small project as it is."""
    return code_base(tmp_path_factory.mktemp("before")).fingerprint(TASK)


def edited(root: Path, file: str, old: str, new: str) -> CodeBase:
    assert FILES[file].count(old) == 1, "the edit does not fit the text"
    return code_base(root, FILES | {file: FILES[file].replace(old, new)})


@pytest.mark.parametrize("edit", CHANGES.values(), ids=CHANGES)
def test_reached_code_changes_the_key(edit: tuple[str, str, str], key: str, tmp_path: Path) -> None:
    assert edited(tmp_path, *edit).fingerprint(TASK) != key


@pytest.mark.parametrize("edit", NO_CHANGES.values(), ids=NO_CHANGES)
def test_words_and_unreached_code_do_not(edit: tuple[str, str, str], key: str, tmp_path: Path) -> None:
    assert edited(tmp_path, *edit).fingerprint(TASK) == key


@given(st.sets(st.sampled_from(sorted(FILES))))
@settings(max_examples=20, deadline=None)
def test_formatting_never_changes_the_key(key: str, names: set[str]) -> None:
    formatted = {name: f"# formatted\n\n{ast.unparse(ast.parse(FILES[name]))}\n\n" for name in names}
    with tempfile.TemporaryDirectory() as folder:
        assert code_base(Path(folder), FILES | formatted).fingerprint(TASK) == key


@given(
    calls=st.lists(st.sets(st.integers(0, 6)), min_size=7, max_size=7),
    modules=st.lists(st.sampled_from("ab"), min_size=7, max_size=7),
    changed=st.integers(0, 6),
)
@settings(max_examples=60, deadline=None)
def test_exactly_reached_functions_count(calls: list[set[int]], modules: list[str], changed: int) -> None:
    def write(folder: Path, constants: dict[int, int]) -> CodeBase:
        files = {f"pkg/{name}.py": "import pkg.a\nimport pkg.b\n" for name in "ab"}
        for number, called in enumerate(calls):
            names = [f"pkg.{modules[each]}.f{each}()" for each in sorted(called)]
            files[f"pkg/{modules[number]}.py"] += (
                f"def f{number}():\n    return {[constants.get(number, 0)]}, {', '.join(names)}\n"
            )
        return code_base(folder, files)

    reached, waiting = set(), [0]
    while waiting:
        if (number := waiting.pop()) not in reached:
            reached.add(number)
            waiting += calls[number]
    with tempfile.TemporaryDirectory() as folder:
        name = f"pkg.{modules[0]}.f0"
        before, after = write(Path(folder, "before"), {}), write(Path(folder, "after"), {changed: 1})
        assert (before.fingerprint(name) != after.fingerprint(name)) == (changed in reached)


def test_reached_libraries_count(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert code_base(tmp_path).libraries(TASK) == {"mxnet": "mxnet 1", "numpy": "numpy 1"}
    unused = ("scipy", "pyyaml", "prefect")  # by unreached code, by support, by the task itself
    for name in (*unused, "mxnet", "numpy"):
        monkeypatch.setattr(importlib.metadata, "version", lambda asked, name=name: f"{asked} {1 + (asked == name)}")
        assert (code_base(tmp_path).fingerprint(TASK) == key) == (name in unused)


@pytest.mark.parametrize(
    ("module", "installed", "expected"),
    [
        ("PIL", {"pillow": "11"}, {"pillow": "11"}),
        ("mxnet", {"mxnet-cu112": "1.9"}, {"mxnet": "1.9"}),
        ("mxnet", {}, {"mxnet": "none"}),
        ("math", {}, {}),
        ("tqdm", {"tqdm": "4"}, {}),
    ],
)
def test_library_versions(
    module: str,
    installed: dict[str, str],
    expected: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def version(name: str) -> str:
        if name not in installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    files = {"pkg/a.py": f"from {module} import thing\ndef f(): return thing\n"}
    assert code_base(tmp_path, files).libraries("pkg.a.f") == expected


def test_entries_of_a_task(tmp_path: Path) -> None:
    base = code_base(tmp_path)
    entries = ("pkg.inputs.Settings", "pkg.rooms.core.run", "pkg.sources.open_source")
    assert base.entries(TASK) == entries
    assert base.fingerprint(*reversed(entries)) == base.fingerprint(TASK)
    assert base.entries("pkg.rooms.core.run") == ("pkg.rooms.core.run",)


def test_ignored_definition_does_not_count(tmp_path: Path) -> None:
    files = {"pkg/a.py": "T = {'x': 1}\ndef f(): return T['x']\n"}
    bases = [code_base(tmp_path / new, files | {"pkg/a.py": files["pkg/a.py"].replace("1", new)}) for new in "12"]
    assert len({base.fingerprint("pkg.a.f") for base in bases}) == 2
    bases = [CodeBase(base.root, ("pkg",), ignored=("pkg.a.T",)) for base in bases]
    assert len({base.fingerprint("pkg.a.f") for base in bases}) == 1


def test_cyclic_imports_are_followed_once(tmp_path: Path) -> None:
    files = {
        "pkg/__init__.py": "import pkg.a\nfrom . import b\n",
        "pkg/a.py": "import pkg\nfrom pkg.b import g\ndef f(): return vars(pkg), g",
        "pkg/b.py": "from pkg import a\ndef g(): return vars(a)",
    }
    before, after = code_base(tmp_path / "before", files), code_base(tmp_path / "after", files | {"pkg/b.py": "g = 1"})
    assert before.fingerprint("pkg.a.f") != after.fingerprint("pkg.a.f")


@pytest.mark.parametrize(
    ("text", "name", "missing"),
    [
        ("", "pkg.a.f", "pkg.a.f"),
        ("", "pkg.b.f", "pkg.b"),
        ("", "elsewhere.f", "elsewhere.f"),
        ("from pkg import lost\ndef f(): return lost()", "pkg.a.f", "pkg.lost"),
        ("import pkg\ndef f(): return pkg.lost()", "pkg.a.f", "pkg.lost"),
        ("from numpy import *\ndef f(): return zeros()", "pkg.a.f", "numpy"),
    ],
)
def test_what_is_missing_is_named(text: str, name: str, missing: str, tmp_path: Path) -> None:
    with pytest.raises(LookupError, match=f"{missing}"):
        code_base(tmp_path, {"pkg/a.py": text}).fingerprint(name)


def test_a_top_level_function_is_looked_up() -> None:
    assert fingerprint_function(text_digest) == PROJECT.fingerprint("cnn.support.files.text_digest")


def test_other_functions_are_known_by_their_code() -> None:
    def add(x: int) -> int:
        """One more."""
        return x + 1

    kept, add_one = add, fingerprint_function(add)

    def add(x: float) -> float:  # type: ignore[no-redef]
        return x + 1

    assert kept is not add and fingerprint_function(add) == add_one

    def add(x: int) -> int:  # type: ignore[no-redef]
        return x + 2

    assert fingerprint_function(add) != add_one


def test_all_code_of_the_project_is_found() -> None:
    for file in (file for package in PROJECT.packages for file in (PROJECT.root / package).rglob("*.py")):
        module = ".".join(file.relative_to(PROJECT.root).with_suffix("").parts).removesuffix(".__init__")
        assert len(PROJECT.fingerprint(module)) == 64
