"""Importing the package costs little: what takes seconds is imported when it is first used."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

IMPORT = """
import importlib, pkgutil, sys
import cnn

for module in pkgutil.walk_packages(cnn.__path__, "cnn."):
    importlib.import_module(module.name)
    for name in ("mxnet", "onnx", "onnxruntime", "sklearn", "scipy", "matplotlib", "prefect"):
        assert name not in sys.modules, f"{module.name} imports {name}"
for name in cnn.__all__:
    getattr(cnn, name)
print(len([name for name in sys.modules if name.partition(".")[0] == "cnn"]), "mxnet" in sys.modules)
from cnn.support.backend import mx
mx.cpu
print("mxnet" in sys.modules)
"""


def test_no_module_imports_what_takes_seconds() -> None:
    process = subprocess.run([sys.executable, "-c", IMPORT], cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    modules = len(list((ROOT / "cnn").rglob("*.py")))
    assert process.stdout.split() == [str(modules), "False", "True"]
