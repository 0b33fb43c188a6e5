"""Scoring as a user would write it with PyTorch; `benchmarks/serving.py` runs it.

    PYTHON benchmarks/serving_pytorch.py NAMES VIEWS BATCH WORKERS

PYTHON has torch and torchvision. The text file names an image in each line. SqueezeNet 1.1 has random parameters; with
two views an answer is the mean over the image and its mirror image. Prints, as JSON, the seconds that it took without
imports, and those that processors worked.
"""

import json
import os
import sys
import time
from pathlib import Path

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import models, transforms

_PREPROCESSING = transforms.Compose(
    [
        transforms.Resize(256),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
)


class Files(Dataset):
    """The images of some files, (3, 224, 224)."""

    def __init__(self, names: list[str]) -> None:
        self._names = names

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, number: int) -> torch.Tensor:
        with Image.open(self._names[number]) as image:
            return _PREPROCESSING(image.convert("RGB"))


def score(names: list[str], views: int, batch: int, workers: int) -> torch.Tensor:
    """Probabilities, (n, 2)."""
    net = models.squeezenet1_1(num_classes=2).eval()
    found = []
    with torch.inference_mode():
        for images in DataLoader(Files(names), batch_size=batch, num_workers=workers):
            logits = net(images)
            if views == 2:
                logits = (logits + net(images.flip(3))) / 2
            found.append(logits.softmax(1))
    return torch.cat(found)


if __name__ == "__main__":
    file, views, batch, workers = sys.argv[1:]
    torch.set_num_threads(int(workers))
    begin, before = time.monotonic(), sum(os.times()[:4])  # of this process and of its workers
    score(Path(file).read_text(encoding="utf-8").splitlines(), int(views), int(batch), int(workers))
    seconds = time.monotonic() - begin
    print(json.dumps({"seconds": seconds, "worked": sum(os.times()[:4]) - before}))
