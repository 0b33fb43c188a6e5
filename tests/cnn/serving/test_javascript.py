"""The JavaScript of docs/files.md, run by Node with onnxruntime-web, against the Python of the same page."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from candidates import explained  # noqa: F401  (a fixture)
from conftest import ROOT
from PIL import Image

from cnn import Predictor

CALL = """
const rgba = new Uint8ClampedArray((await import("fs")).readFileSync("pixels.bin"));
console.log(JSON.stringify(await classify({ data: rgba, width: 90, height: 60 })));
"""


@pytest.mark.network
@pytest.mark.skipif(not (shutil.which("node") and shutil.which("npm")), reason="Node is not installed")
def test_javascript_answers_as_python_does(explained: Path, tmp_path: Path) -> None:
    version = explained / "food" / "v0001"
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
    image = Image.fromarray(pixels).resize((90, 60), Image.Resampling.BICUBIC)
    (tmp_path / "pixels.bin").write_bytes(np.asarray(image.convert("RGBA")).tobytes())
    shutil.copy(version / "squeezenet-image.onnx", tmp_path)
    (code,) = re.findall(r"```js\n(.*?)```", (ROOT / "docs" / "files.md").read_text(encoding="utf-8"), re.S)
    (tmp_path / "snippet.mjs").write_text(code + CALL, encoding="utf-8")
    subprocess.run(["npm", "install", "--silent", "onnxruntime-web"], cwd=tmp_path, check=True, capture_output=True)
    process = subprocess.run(["node", "snippet.mjs"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    expected = Predictor(version).predict(image).probabilities
    np.testing.assert_allclose(json.loads(process.stdout), expected, atol=1e-3)
