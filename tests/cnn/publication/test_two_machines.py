"""Versions and champions in object storage, which several machines publish to at once."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from candidates import Made, equal, hotdog  # noqa: F401
from object_storage import BUCKET, Server, failing, storage  # noqa: F401

from cnn.publication import publishing
from cnn.publication.champions import champion, promote, restore_champion
from cnn.publication.gate import decide
from cnn.publication.inventory import problems, prune
from cnn.publication.manifest import Manifest, versions
from cnn.publication.records import Champion
from cnn.publication.versions import can_answer, claim_version, next_version, version_folders
from cnn.serving.predictor import Predictor
from cnn.serving.web.current import CurrentChampion
from cnn.support.errors import UserError
from cnn.support.objects import Object

MODELS = Object(f"{BUCKET}/models")


def machine(tmp_path: Path, number: int) -> Path:
    """The models as one of several machines sees them."""
    return tmp_path / f"machine {number}" / "s3:" / "bucket" / "models"


def test_none_of_two_that_publish_at_once_is_lost(
    storage: Server, hotdog: Made, equal: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both, asked = Barrier(2), []

    def decide_together(*arguments: Any) -> Any:
        asked.append(decision := decide(*arguments))
        if len(asked) <= 2:
            both.wait(120)  # neither has published when the other decides
        return decision

    monkeypatch.setattr(publishing, "decide", decide_together)
    with ThreadPoolExecutor() as pool:
        running = [pool.submit(made.publish, machine(tmp_path, number)) for number, made in enumerate((hotdog, equal))]
        names = [each.result().name for each in running]
    assert len(asked) == 3 and len(set(names)) == 2
    folder = machine(tmp_path, 3) / "food"  # which has seen nothing of it
    found, entry = versions(folder), Champion.read(folder)
    assert {path.name for path in found} == set(names) and not any(map(problems, found))
    assert entry.former == [name for name in names if name != entry.version]
    judgement = found[folder / entry.version].judgement
    assert judgement and judgement.champion == entry.former[0]
    assert next_version(folder).name == "v0004"  # the number of the version that was withdrawn is not used again


def test_what_a_killed_publisher_left_does_not_count(storage: Server, hotdog: Made, tmp_path: Path) -> None:
    folder = machine(tmp_path, 1) / "food"
    assert claim_version(folder).name == "v0001"
    (MODELS / "food" / "v0001" / "README.md").put(b"half", "")
    assert version_folders(folder) == [] and champion(folder) is None
    version = hotdog.publish(folder.parent)
    assert version.name == "v0002" and champion(folder) == version
    assert Manifest.open(version).reason == "There was no champion to compare with."


def test_another_machine_answers_verifies_and_prunes(
    storage: Server, hotdog: Made, equal: Made, drawn: Path, tmp_path: Path
) -> None:
    for made in (hotdog, equal):
        made.publish(machine(tmp_path, 1))
    folder = machine(tmp_path, 2) / "food"
    current = CurrentChampion(lambda: Predictor.champion(folder.parent))
    (photo, *_) = sorted((drawn / "test").rglob("*.jpg"))
    assert current.predictor.version == folder / "v0002" and current.predictor.predict(photo).label == "hotdog"
    assert not (folder / "v0001" / "report.html").exists()  # nobody asked for it
    assert not any(map(problems, version_folders(folder)))

    promote(machine(tmp_path, 1) / "food" / "v0001", by="somebody")
    current.refresh()
    assert current.predictor.version == folder / "v0001"
    storage.busy_every = 1  # object storage is away
    current.refresh()
    assert current.predictor.version == folder / "v0001"
    storage.busy_every = 0

    prune(folder, [folder / "v0002"])
    assert [path.name for path in version_folders(folder)] == ["v0001"]
    assert set((MODELS / "food" / "v0002").below()) == {".claimed"}
    (MODELS / "food" / "v0001" / "squeezenet.onnx").put(b"other", "")
    with pytest.raises(UserError, match=r"squeezenet\.onnx"):
        Predictor.champion(machine(tmp_path, 3))


def test_champion_is_kept_whatever_its_copy_here_or_access_to_it(
    storage: Server, hotdog: Made, equal: Made, tmp_path: Path
) -> None:
    for made in (hotdog, equal):
        made.publish(machine(tmp_path, 1))
    folder = machine(tmp_path, 1) / "food"
    manifest = folder / "v0002" / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:-200])
    assert restore_champion(folder) == folder / "v0002"
    far = machine(tmp_path, 2) / "food"
    assert champion(far) == far / "v0002"
    storage.faults.append(("GET", failing("403 Forbidden")))
    with pytest.raises(UserError, match="access is denied"):
        can_answer(far / "v0002")
    assert restore_champion(far) == far / "v0002"


def test_what_is_gone_from_the_bucket_is_published_anew(storage: Server, hotdog: Made, tmp_path: Path) -> None:
    folder = machine(tmp_path, 1) / "food"
    hotdog.publish(folder.parent)
    MODELS.delete(MODELS.below())
    assert version_folders(folder) == [] and champion(folder) is None
    version = hotdog.publish(folder.parent)
    assert version == folder / "v0001" == champion(folder) and champion(machine(tmp_path, 2) / "food")
