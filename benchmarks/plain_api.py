"""An API as one would write it without batches, on a thread of FastAPI's for each request; `benchmarks/api.py` runs it.

python benchmarks/plain_api.py VERSION
"""

import sys
from pathlib import Path

import onnxruntime
import uvicorn
from fastapi import FastAPI, UploadFile
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cnn.data.images import center_view, to_tensor
from cnn.publication.versions import Served


def create_app(version: Path) -> FastAPI:
    """The application that answers with a version; it checks nothing."""
    served = Served.open(version)
    session = onnxruntime.InferenceSession(version / served.onnx)
    app = FastAPI()

    @app.post("/predict")
    def predict(image: UploadFile) -> dict[str, float]:
        view = center_view(Image.open(image.file).convert("RGB"), served.preprocessing)
        probabilities, *_ = session.run(None, {"data": to_tensor([view], served.preprocessing)})
        return dict(zip(served.classes, probabilities[0].tolist(), strict=True))

    return app


if __name__ == "__main__":
    uvicorn.run(create_app(Path(sys.argv[1])), port=0, access_log=False)
