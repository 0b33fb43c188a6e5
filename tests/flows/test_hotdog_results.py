"""What comes out of the hotdog flow: names, the published network in its forms, predictions, recipes."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import Run, write_images
from hotdog_flow import Runner, photos, published, run  # noqa: F401  (fixtures)
from PIL import Image
from prefect.client.orchestration import get_client
from scipy.special import softmax
from without_figures import no_figures  # noqa: F401  (a fixture)

from cnn.__main__ import main
from cnn.publication.manifest import Manifest
from cnn.support.backend import mx
from cnn.support.errors import UserError

pytestmark = pytest.mark.usefixtures("prefect_server")


def test_tasks_are_named_after_what_they_do(drawn: Path, published: Run, weights_file: Path) -> None:
    with get_client(sync_client=True) as client:
        names = {task.name for task in client.read_task_runs()}
    assert names >= {
        f"open {drawn.stem}", f"prepare {drawn.stem}", f"open {weights_file.stem} weights", "embed",
        "train head", "evaluate classifier", f"publish {drawn.stem}",
    }  # fmt: skip


def test_published_network_fits_the_model_zoo(published: Run, drawn: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    net = mx.gluon.model_zoo.vision.squeezenet1_1(classes=2)
    net.load_parameters(str(published.version / "squeezenet.params"))
    session = onnxruntime.InferenceSession(str(published.version / "squeezenet.onnx"))
    mean, std = (np.array(each, np.float32) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    rows = pq.read_table(published.version / "predictions-test.parquet").to_pylist()
    temperature = Manifest.open(published.version).calibration.temperature
    assert len(rows) == 8
    for row in rows:
        image = Image.open(drawn / row["image"])
        assert image.size == (256, 256)  # so that only the middle has to be cut out
        pixels = np.asarray(image.crop((16, 16, 240, 240))) / np.float32(255)
        shown = ((pixels - mean) / std).transpose(2, 0, 1)[None]
        both = net(mx.nd.array(np.concatenate([shown, shown[..., ::-1]]))).asnumpy()  # ONNX mirrors by itself
        for shares in (softmax(both.mean(0) / temperature), session.run(None, {"data": shown})[0][0]):
            np.testing.assert_allclose(shares, [row["p(hotdog)"], row["p(not_hotdog)"]], atol=1e-3)


def test_report_holds_an_audit(published: Run) -> None:
    assert {"duplicates.parquet", "outliers.parquet"} <= Manifest.open(published.version).files.keys()
    assert "Copies, outliers, flawed images" in (published.version / "report.html").read_text(encoding="utf-8")


def test_classify_agrees_with_the_evaluation(
    published: Run, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = str(published.version.parents[1])
    expected = pq.read_table(published.version / "predictions-test.parquet").to_pylist()
    capsys.readouterr()
    plot = tmp_path / "plot.png"
    arguments = ["classify", str(drawn / "test"), "--models", models, "--json"]
    main([*arguments, "--plot", str(plot)])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    found = {Path(line["image"]).relative_to(drawn).as_posix(): line for line in lines}
    assert len(found) == len(expected) == 8
    for row in expected:
        line = found[row["image"]]
        assert line["class"] == row["prediction"]
        for label, share in line["probabilities"].items():
            assert share == pytest.approx(row[f"p({label})"], abs=1e-5)
    assert Image.open(plot).size > (400, 200)


def test_classify_reports_what_is_no_image(
    published: Run, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = ["--models", str(published.version.parents[1])]
    first = next((drawn / "validation" / "hotdog").iterdir())
    (folder := tmp_path / "copy").mkdir()
    for name in (b"caf\xe9.jpg", b"Thumbs.db", b".hidden.jpg"):
        shutil.copy(first, folder / os.fsdecode(name))
    capsys.readouterr()
    main(["classify", str(folder), *models])
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{folder}/caf?.jpg: ")
    (text := tmp_path / "text.jpg").write_text("text")
    with pytest.raises(UserError, match=r"text\.jpg: not an image; expected an image\. .*nowhere\.jpg: cannot be read"):
        main(["classify", str(text), str(first), str(tmp_path / "nowhere.jpg"), *models])
    assert capsys.readouterr().out.startswith(f"{first}: ")  # the others are classified


@pytest.mark.usefixtures("no_figures")
def test_notebook_recipe_chooses_on_test(run: Runner, photos: Path) -> None:
    shutil.rmtree(photos / "validation")
    ended = run(photos, recipe="notebook", epochs=1)
    assert ended.worked() >= {"pack", "train"} and "embed" not in ended.worked()
    manifest, card = Manifest.open(ended.version), (ended.version / "README.md").read_text()
    assert list(manifest.metrics) == ["validation"] and manifest.metrics["validation"].images == 8
    assert "no test split" in card and "served as validation" in card


@pytest.mark.usefixtures("no_figures")
def test_three_classes_have_a_mean_f1(run: Runner, tmp_path: Path) -> None:
    for number, label in enumerate(("ant", "bee", "cat")):
        for split, first in (("train", 10 * number), ("validation", 100 + 10 * number)):
            write_images(tmp_path / "zoo" / split, 2, first, labels=("hotdog",))
            (tmp_path / "zoo" / split / "hotdog").rename(tmp_path / "zoo" / split / label)
    manifest = Manifest.open(run(tmp_path / "zoo").version)
    assert manifest.classes == ("ant", "bee", "cat") and manifest.positive is None
