"""Snippets: how a published version is used without this project, as Python for its card. A test runs them."""

from cnn.data.images import Preprocessing
from cnn.publication.manifest import Manifest
from cnn.publication.records import network_files


def snippets(manifest: Manifest) -> str:
    """Three ways to answer for an image, as Markdown: with this project, with onnxruntime, with MXNet alone."""
    symbol, parameters, onnx = network_files(manifest.network.architecture)
    onnxruntime = f'probabilities = onnxruntime.InferenceSession("{onnx}").run(None, {{"data": data}})[0][0]'
    mxnet = f"""network = mx.gluon.SymbolBlock.imports("{symbol}", ["data"], "{parameters}")
logits = network(mx.nd.array(data)).asnumpy()[0]
powers = np.exp((logits - logits.max()) / {manifest.calibration.temperature:g})
probabilities = powers / powers.sum()"""
    renamed = "np.bool = np.bool_  # MXNet uses its former name\nimport mxnet as mx"
    return f"""With this project, from its root:

```python
import cnn

print(cnn.Predictor("artifacts/{manifest.name}/{manifest.version}").predict("lunch.jpg").by_class)
```

With onnxruntime, numpy and Pillow, in this folder:

{_program(manifest, "import onnxruntime", onnxruntime)}

With MXNet 1.9, numpy and Pillow, in this folder:

{_program(manifest, renamed, mxnet)}"""


def _program(manifest: Manifest, imports: str, compute: str) -> str:
    """A program around the code that computes ``probabilities`` from ``data``."""
    return f"""```python
import json

import numpy as np
from PIL import Image
{imports}

{_prepare(manifest.network.preprocessing)}
{compute}
print(dict(zip(json.load(open("classes.json")), probabilities.tolist())))
```"""


def _prepare(preprocessing: Preprocessing) -> str:
    """Code that makes ``data``, (1, 3, side, side), of an image file, as `cnn.data.images` does."""
    crop, short_side = preprocessing.crop, preprocessing.short_side
    scaled = "data = (data - data.min()) / max(1, data.max() - data.min())"
    if preprocessing.mean and preprocessing.std:
        mean, std = (list(values) for values in (preprocessing.mean, preprocessing.std))
        scaled = f"data = (data / 255 - {mean}) / {std}"
    return f"""image = Image.open("lunch.jpg").convert("RGB")
side = min(image.size) * {crop} / {short_side}
left, top = ((length - side) / 2 for length in image.size)
middle = image.resize(({crop}, {crop}), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
data = np.asarray(middle, np.float32)
{scaled}
data = data.transpose(2, 0, 1)[None].astype(np.float32)"""
