"""Which folders of the store are listed as of no more use, and which are kept."""

import subprocess
import sys
from pathlib import Path

import pytest

from cnn.support import store as module
from cnn.support.files import atomic_file
from cnn.support.fingerprint import CodeBase
from cnn.support.references import Reference
from cnn.support.store import keyed_folder, unreachable

ROOT = Path(__file__).parents[3]
CODE = {"half": "def half(x):\n    return x / 2\n", "twice": "def twice(x):\n    return x * 2\n"}


class Store:
    """A store whose folders are made by the functions ``half`` and ``twice`` of a package ``code``."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._root, self._monkeypatch = folder / "store", folder, monkeypatch
        self.photos = folder / "photos"
        self.photos.mkdir()
        (self.photos / "1.jpg").write_bytes(b"photo")
        self.write_code(**CODE)

    def write_code(self, **modules: str) -> None:
        """Change modules of the package; what is fingerprinted from now on is the new code."""
        (self._root / "code").mkdir(exist_ok=True)
        for name, text in modules.items():
            (self._root / "code" / f"{name}.py").write_text(text, encoding="utf-8")
        self._monkeypatch.setattr(module, "PROJECT", CodeBase(self._root, packages=("code",)))

    def make(self, kind: str, made_by: str, *inputs: Path) -> Path:
        """Make a folder with a file in it."""
        key = f"{kind:x>16}, and the rest of the key"
        references = [Reference.to(path) for path in inputs]
        folder = keyed_folder(self.folder, kind, key, (f"code.{made_by}.{made_by}",), references)
        folder.mkdir()
        (folder / "result").write_text("1", encoding="utf-8")
        return folder

    def listed(self) -> dict[str, str]:
        """What is of no more use, by its name in the store, with the reason."""
        return {path.relative_to(self.folder).as_posix(): reason for path, reason in unreachable(self.folder)}

    @staticmethod
    def names(*folders: Path) -> set[str]:
        """Folders with the files of their origin, by their names in the store."""
        return {f"{each.parent.name}/{each.name}{end}" for each in folders for end in ("", ".json")}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    return Store(tmp_path, monkeypatch)


def test_folder_is_named_by_kind_and_key(store: Store) -> None:
    folder = keyed_folder(store.folder, "pixels", "0123456789abcdefghi", ("code.half.half",), [])
    assert folder == store.folder / "pixels" / "0123456789abcdef"
    assert not folder.exists()


def test_everything_in_use_is_kept(store: Store) -> None:
    dataset = store.make("datasets", "half", store.photos)
    store.make("pixels", "twice", dataset, dataset / "result")
    for unkeyed in (store.folder / "downloads" / "photos", store.folder / "datasets" / ".cache"):
        unkeyed.mkdir(parents=True)
    (store.folder / "notes.txt").touch()
    assert not store.listed()
    (dataset / "result").write_text("2")  # a damaged result is rebuilt in its place
    assert not store.listed()


def test_empty_store_lists_nothing(store: Store) -> None:
    assert not store.listed()


def test_changed_code_is_listed_with_what_depends_on_it(store: Store) -> None:
    dataset = store.make("datasets", "half", store.photos)
    pixels = store.make("pixels", "twice", dataset)
    checkpoint = store.make("checkpoints", "twice", pixels / "result")  # a file in it
    other = store.make("other", "twice", store.photos)
    store.write_code(half=CODE["half"].replace("2", "3"))
    listed = store.listed()
    assert listed.keys() == store.names(dataset, pixels, checkpoint)
    assert "code or libraries that have changed" in listed[f"datasets/{dataset.name}"]
    assert listed[f"pixels/{pixels.name}"] == f"made from datasets/{dataset.name}, which is of no more use"
    assert other.exists()


def test_reworded_code_is_in_use(store: Store) -> None:
    store.make("datasets", "half", store.photos)
    store.write_code(half="# half of it\n" + CODE["half"], twice="def twice(x):\n    return x + x\n")
    assert not store.listed()


def test_deleted_code_is_listed(store: Store) -> None:
    dataset = store.make("datasets", "half", store.photos)
    store.write_code(half="")
    assert store.listed().keys() == store.names(dataset)


@pytest.mark.parametrize("change", ["changed", "added", "gone"])
def test_changed_input_is_listed(store: Store, change: str) -> None:
    other = store.photos.with_name("other.zip")
    other.write_bytes(b"zip")
    dataset, kept = store.make("datasets", "half", store.photos), store.make("other", "half", other)
    pixels = store.make("pixels", "twice", dataset)
    if change == "gone":
        store.photos.rename(store.photos.with_name("elsewhere"))
    else:
        (store.photos / ("1.jpg" if change == "changed" else "2.jpg")).write_bytes(b"other")
    listed = store.listed()
    assert listed.keys() == store.names(dataset, pixels)
    assert listed[f"datasets/{dataset.name}"] == f"made from {store.photos}, which has changed or is gone"
    assert kept.exists()


def test_deleted_folder_lists_what_depends_on_it(store: Store) -> None:
    dataset = store.make("datasets", "half", store.photos)
    pixels = store.make("pixels", "twice", dataset)
    dataset.rename(dataset.with_name(".moved"))
    assert store.listed().keys() == store.names(pixels)


@pytest.mark.parametrize("origin", [None, "", "{}", '{"made_by": 1}'])
def test_folder_without_origin_is_listed(store: Store, origin: str | None) -> None:
    old = store.folder / "datasets" / "of-an-older-release"
    old.mkdir(parents=True)
    if origin is not None:
        old.with_name(f"{old.name}.json").write_text(origin)
    listed = store.listed()
    assert listed.keys() == (store.names(old) if origin is not None else {f"datasets/{old.name}"})
    assert set(listed.values()) == {"made by another release of this project"}


def test_killed_runs_temporary_file_is_listed(store: Store) -> None:
    folder = store.make("datasets", "half", store.photos)
    code = f"""
import os
from pathlib import Path
from cnn.support.files import atomic_file
with atomic_file(Path({str(folder)!r}) / "file") as temporary:
    print(temporary, flush=True)
    os._exit(9)
"""
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    left = Path(process.stdout.strip())
    with atomic_file(folder / "other") as alive:
        assert left.exists() and alive.exists()
        assert store.listed() == {f"datasets/{folder.name}/{left.name}": "left by a killed run"}
