"""The whole flow on drawn pictures: what runs, what is cached, what is rebuilt, what is refused."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Run, kill_in_mid_training, run_flow, write_pictures
from PIL import Image
from prefect.utilities.schema_tools import validate

from cnn import files
from cnn.__main__ import Commands
from cnn.backend import mx
from cnn.catalog import DATASETS, WEIGHTS, CatalogEntry, CatalogFile
from cnn.commandline import parse
from cnn.errors import UserError
from cnn.files import file_digest
from cnn.model_card import summary
from cnn.sample import write_sample
from cnn.settings import model_name
from flows.hotdog import HotdogSettings, hotdog
from tasks import fetching

pytestmark = pytest.mark.usefixtures("prefect_server")


Runner = Callable[..., Run]


def short(name: str) -> str:
    """First word of a task run's name, with "weights" where it says so."""
    return "weights" if name.endswith(" weights") else name.split()[0]


@pytest.fixture
def run(tmp_path: Path, weights_file: Path) -> Runner:
    def run_hotdog(data: Path, **settings: object) -> Run:
        base = {
            "weights": str(weights_file),
            "store": tmp_path / "store",
            "models": tmp_path / "models",
            "epochs": 2,
        }
        return run_flow(hotdog, HotdogSettings(data=str(data), **(base | settings)), short)

    return run_hotdog


@pytest.fixture
def photos(tmp_path: Path, drawn: Path) -> Path:
    """A copy of the drawn pictures that a test may change."""
    return shutil.copytree(drawn, tmp_path / "photos")


def embedded(store: Path) -> list[list[str]]:
    """Picture ids of each shard of training features."""
    shards = [pa.ipc.open_file(str(path)) for path in store.glob("features/*/train/*.arrow")]
    return [json.loads(shard.schema.metadata[b"pictures"]) for shard in shards]


def test_run_twice_work_once_and_only_what_changed(run: Runner, photos: Path, tmp_path: Path) -> None:
    first = run(photos)
    assert first.worked() == {"fetch", "prepare", "weights", "embed", "train", "evaluate", "publish"}
    second = run(photos)
    assert second.worked() == set() and second.version == first.version

    write_pictures(photos / "train", 1, first=50, labels=("hotdog",))
    third = run(photos)
    assert third.worked() == {"fetch", "prepare", "embed", "train", "evaluate", "publish"}
    assert sorted(map(len, embedded(tmp_path / "store"))) == [1, 16]
    assert third.version.name == "v0002"

    longer = run(photos, epochs=3)
    assert longer.worked() <= {"train", "evaluate", "publish"} and "train" in longer.worked()


def damage(folder: Path, how: str) -> tuple[Path, bytes]:
    """Delete or alter the largest file in a folder; returns which, and what it held."""
    victim = max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    contents = victim.read_bytes()
    if how == "deleted":
        victim.unlink()
    else:
        middle = len(contents) // 2
        victim.write_bytes(contents[:middle] + bytes([contents[middle] ^ 1]) + contents[middle + 1 :])
    return victim, contents


def test_a_damaged_cache_is_rebuilt(run: Runner, drawn: Path, tmp_path: Path) -> None:
    before = run(drawn)
    for folder, task, how in (
        ("datasets", "prepare", "deleted"),
        ("features", "embed", "altered"),
        ("training", "train", "deleted"),
        ("reports", "evaluate", "altered"),
    ):
        victim, contents = damage(tmp_path / "store" / folder, how)
        after = run(drawn)
        assert after.worked() == {task}, folder
        assert victim.read_bytes() == contents and after.version == before.version
    damage(before.version, "deleted")
    after = run(drawn)  # a published version is never edited: a damaged one is followed by another
    assert after.worked() == {"publish"} and after.version.name == "v0002"
    champion = after.version.parent / "champion.json"
    champion.unlink()
    assert run(drawn).worked() == {"publish"} and json.loads(champion.read_text())["version"] == "v0002"
    assert not run(drawn).worked()


def test_the_published_network_loads_into_the_model_zoo_and_onnxruntime(run: Runner, drawn: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    version = run(drawn).version
    net = mx.gluon.model_zoo.vision.squeezenet1_1(classes=2)
    net.load_parameters(str(version / "squeezenet.params"))
    pictures = np.random.default_rng(0).normal(size=(2, 3, 224, 224)).astype(np.float32)
    ours = net(mx.nd.array(pictures)).asnumpy()
    session = onnxruntime.InferenceSession(str(version / "squeezenet.onnx"))
    np.testing.assert_allclose(session.run(None, {"data": pictures})[0], ours, rtol=1e-3, atol=1e-4)
    symbol = mx.gluon.SymbolBlock.imports(
        str(version / "squeezenet-symbol.json"), ["data"], str(version / "squeezenet-0000.params")
    )
    np.testing.assert_allclose(symbol(mx.nd.array(pictures)).asnumpy(), ours, rtol=1e-5, atol=1e-6)


def test_the_notebook_recipe_selects_on_the_second_part(run: Runner, photos: Path) -> None:
    shutil.rmtree(photos / "validation")
    version = run(photos, recipe="notebook", epochs=1).version
    manifest = json.loads((version / "manifest.json").read_text())
    assert list(manifest["metrics"]) == ["validation"]
    assert manifest["metrics"]["validation"]["pictures"] == 8
    assert "no test figures" in (version / "README.md").read_text()


def test_finetuning_is_a_second_stage(run: Runner, drawn: Path) -> None:
    version = run(drawn, finetune=1).version
    history = pq.read_table(version / "history.parquet").to_pylist()
    assert [(row["stage"], row["epoch"]) for row in history] == [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1)]


def test_more_than_two_classes_have_a_mean_f1(run: Runner, tmp_path: Path) -> None:
    for number, label in enumerate(("ant", "bee", "cat")):
        for split, first in (("train", 10 * number), ("validation", 100 + 10 * number)):
            write_pictures(tmp_path / "zoo" / split, 2, first, labels=("hotdog",))
            (tmp_path / "zoo" / split / "hotdog").rename(tmp_path / "zoo" / split / label)
    version = run(tmp_path / "zoo").version
    manifest = json.loads((version / "manifest.json").read_text())
    assert manifest["classes"] == ["ant", "bee", "cat"] and manifest["positive"] is None


def test_a_worse_model_does_not_become_champion(run: Runner, drawn: Path, tmp_path: Path) -> None:
    first = run(drawn).version
    champion = first.parent / "champion.json"
    manifest = json.loads((first / "manifest.json").read_text())
    manifest["metrics"]["validation"]["f1"] = 1.01
    (first / "manifest.json").write_text(json.dumps(manifest))
    second = run(drawn, epochs=1, seed=1).version
    assert second != first
    assert json.loads(champion.read_text())["version"] == first.name
    assert "Worse than the champion" in (second / "README.md").read_text()


@pytest.mark.parametrize(
    ("data", "wanted", "name"),
    [("sample", None, "hotdog-sample"), ("hotdog", None, "hotdog"), ("hotdog-records", None, "hotdog"),
     ("my/Pets 2", None, "pets-2"), ("a.zip", "mine", "mine")],
)  # fmt: skip
def test_the_name_comes_from_the_data(data: str, wanted: str | None, name: str) -> None:
    assert model_name(data, wanted) == name


def test_a_sample_model_can_never_replace_a_real_one() -> None:
    with pytest.raises(UserError, match="-sample"):
        model_name("sample", "hotdog")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"data": "no/such/place"}, "no/such/place"),
        ({"weights": "no/such.params"}, "no/such.params"),
        ({"device": "gpu"}, "GPU 0 cannot be used"),
        ({"positive": "cow"}, "choose one of hotdog, not_hotdog"),
        ({"store": "/proc/nowhere"}, "cannot be written to"),
        ({"models": "/proc/nowhere"}, "cannot be written to"),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(
    run: Runner, drawn: Path, settings: dict[str, str], words: str, capsys: pytest.CaptureFixture
) -> None:
    if settings.get("device") and mx.context.num_gpus():
        pytest.skip("this machine has a GPU")
    with pytest.raises(UserError, match=words):
        run(**({"data": drawn} | settings))
    assert "Traceback" not in capsys.readouterr().err


def test_classify_says_what_the_evaluation_said(
    run: Runner, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    version = run(drawn).version
    expected = pq.read_table(version / "predictions-validation.parquet").to_pylist()
    capsys.readouterr()
    plot = tmp_path / "plot.png"
    arguments = ["classify", str(drawn / "validation"), "--models", str(tmp_path / "models"), "--json"]
    parse(Commands, [*arguments, "--plot", str(plot)]).run()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    said = {Path(line["picture"]).relative_to(drawn).as_posix(): line for line in lines}
    assert len(said) == len(expected)
    for row in expected:
        line = said[row["picture"]]
        assert line["class"] == row["answer"]
        for label, share in line["probabilities"].items():
            assert share == pytest.approx(row[f"p({label})"], abs=1e-5)
    assert Image.open(plot).size > (400, 200)

    (drawn_copy := tmp_path / "copy").mkdir()
    first = next((drawn / "validation" / "hotdog").iterdir())
    for name in (b"caf\xe9.jpg", b"Thumbs.db", b".hidden.jpg"):
        shutil.copy(first, drawn_copy / os.fsdecode(name))
    parse(Commands, ["classify", str(drawn_copy), "--models", str(tmp_path / "models")]).run()
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{drawn_copy}/caf?.jpg: ")


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_as_if_nothing_had_happened(
    run: Runner, drawn: Path, tmp_path: Path, weights_file: Path
) -> None:
    whole = run(drawn, epochs=40, store=tmp_path / "whole", models=tmp_path / "whole_models")
    places = ("--data", str(drawn), "--weights", str(weights_file), "--models", str(tmp_path / "models"))
    kill_in_mid_training("hotdog", tmp_path / "store", "--epochs", "40", *places)
    after = run(drawn, epochs=40)
    for name in ("squeezenet.params", "history.parquet", "metrics.json"):
        assert (after.version / name).read_bytes() == (whole.version / name).read_bytes()


def test_a_catalogued_dataset_comes_from_the_mirror_once(
    run: Runner, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = Path(shutil.make_archive(str(tmp_path / "mirror" / "hotdog"), "zip", drawn))
    file = CatalogFile("hotdog.zip", ("http://127.0.0.1:9/hotdog.zip",), "sha256", file_digest(mirror))
    monkeypatch.setitem(DATASETS, "hotdog", CatalogEntry((file,), "zip"))
    first = run(Path("auto"), mirror=str(mirror.parent))
    assert first.version.parent.name == "hotdog"
    with monkeypatch.context() as patch:
        patch.setenv("HOTDOG_MIRROR", str(mirror.parent))
        assert not run(Path("auto")).worked()
    downloaded = tmp_path / "store" / "downloads" / "hotdog" / "hotdog.zip"
    downloaded.write_bytes(b"altered")
    assert run(Path("auto"), mirror=str(mirror.parent)).worked() == {"fetch"}
    assert file_digest(downloaded) == file.digest
    downloaded.unlink()
    mirror.unlink()
    with pytest.raises(UserError, match="cannot be reached"):
        run(Path("hotdog"))


def test_auto_falls_back_on_the_sample_and_says_so(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = CatalogFile("hotdog.zip", ("http://127.0.0.1:9/hotdog.zip",), "sha256", "0")
    monkeypatch.setitem(DATASETS, "hotdog", CatalogEntry((file,), "zip"))
    monkeypatch.setitem(WEIGHTS, "imagenet", (file,))
    monkeypatch.setattr(fetching, "write_sample", partial(write_sample, count=48))
    version = run(Path("auto"), weights="imagenet").version
    assert version.parent.name == "hotdog-sample"
    assert "SAMPLE" in caplog.text and "BUILT-IN" in caplog.text
    assert "SAMPLE" in summary(version) and "BUILT-IN" in summary(version)


def test_a_full_disk_is_a_sentence_and_leaves_nothing_half_made(
    run: Runner, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(files, "_flush", full)
        with pytest.raises(UserError, match="the disk is full"):
            run(drawn)
    assert not [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert run(drawn).worked()


@pytest.mark.parametrize(
    ("setting", "value"),
    [("recipe", "fast"), ("device", "tpu"), ("epochs", 0), ("views", 65), ("name", "No Such"), ("seed", -1)],
)
def test_a_wrong_value_is_refused_in_the_same_words_by_the_form_and_by_the_command_line(
    setting: str, value: object
) -> None:
    schema = hotdog.parameters.model_dump()  # what a deployment gives to the form, and to the server that checks it
    (objection,) = validate({"settings": {setting: value}}, schema)
    with pytest.raises(UserError) as refused:
        parse(HotdogSettings, [f"--{setting}", str(value)])
    assert str(refused.value) == f"--{setting} {value}: {objection.message}"


def test_the_form_shows_plain_fields_with_help_and_defaults() -> None:
    fields = hotdog.parameters.model_dump()["definitions"]["HotdogSettings"]["properties"]
    assert set(fields) == set(HotdogSettings.model_fields)
    assert all(field["description"] and "type" in field for field in fields.values())
    assert fields["epochs"].items() >= {"type": "integer", "minimum": 1}.items() and "default" not in fields["epochs"]
    assert fields["recipe"]["enum"] == ["tuned", "notebook"] and fields["recipe"]["default"] == "tuned"


def test_the_environment_sets_nothing_by_accident(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("data", "seed", "DATA"):
        monkeypatch.setenv(name, "7")
    assert parse(HotdogSettings, []) == HotdogSettings()
    assert parse(HotdogSettings, ["--seed", "3", "--store", "x"]) == HotdogSettings(seed=3, store=Path("x"))


def test_an_unknown_flag_is_refused() -> None:
    with pytest.raises(SystemExit) as ended:
        parse(HotdogSettings, ["--learning-rate", "1"])
    assert ended.value.code == 2
