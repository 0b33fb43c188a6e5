"""Transfer learning as a user would write it with PyTorch; `benchmarks/hotdog_vs_notebook.py` runs it.

    PYTHON benchmarks/hotdog_pytorch.py FOLDER WEIGHTS POSITIVE EPOCHS SEED

PYTHON has torch and torchvision. The folder has a folder for each class in train/ and validation/; the weights are
SqueezeNet 1.1's features in an npz file, in the order of torchvision's. Prints seconds, images learnt from, and the
best accuracy and the best F1 of an epoch on validation, as JSON.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import models, transforms
from torchvision.datasets import ImageFolder

_NORMALIZE = (transforms.ToTensor(), transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
_AUGMENTED = transforms.Compose([transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), *_NORMALIZE])
_CENTER = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), *_NORMALIZE])


def load_network(weights: Path, classes: int) -> nn.Module:
    """SqueezeNet 1.1 with frozen features from a file and a new last layer: (n, 3, 224, 224) to (n, classes)."""
    net = models.squeezenet1_1(num_classes=classes)
    with np.load(weights) as arrays:
        tensors = map(torch.from_numpy, arrays.values())
        net.features.load_state_dict(dict(zip(net.features.state_dict(), tensors, strict=True)))
    net.features.requires_grad_(False)
    return net


def evaluate(net: nn.Module, batches: DataLoader, positive: int) -> tuple[float, float]:
    """Accuracy and F1 of the positive class, 0…1."""
    net.eval()
    with torch.inference_mode():
        found = torch.cat([torch.stack([net(images).argmax(1), labels]) for images, labels in batches], 1)
    predicted, labels = found == positive
    accuracy = (found[0] == found[1]).float().mean().item()
    return accuracy, 2 * (predicted & labels).sum().item() / max(1, (predicted.sum() + labels.sum()).item())


def train(folder: Path, weights: Path, positive: str, epochs: int, seed: int) -> dict[str, float]:
    """Train the output block with Adam; the seconds are of everything but imports."""
    begin = time.monotonic()
    torch.manual_seed(seed)
    learnt, asked = ImageFolder(str(folder / "train"), _AUGMENTED), ImageFolder(str(folder / "validation"), _CENTER)
    batches = DataLoader(learnt, batch_size=64, shuffle=True, num_workers=2)
    net = load_network(weights, len(learnt.classes))
    optimizer = torch.optim.Adam(net.classifier.parameters(), lr=1e-3)
    loss = nn.CrossEntropyLoss()
    measured = []
    for epoch in range(epochs):
        net.train()
        for images, labels in batches:
            optimizer.zero_grad()
            loss(net(images), labels).backward()
            optimizer.step()
        number = learnt.class_to_idx[positive]
        measured.append(evaluate(net, DataLoader(asked, batch_size=64, num_workers=2), number))
        print("PyTorch epoch {}: accuracy {:.3f}, F1 {:.3f}".format(epoch, *measured[-1]), file=sys.stderr, flush=True)
    seconds = time.monotonic() - begin
    accuracy, f1 = map(max, zip(*measured, strict=True))
    return {"seconds": seconds, "images": epochs * len(learnt), "accuracy": accuracy, "f1": f1}


if __name__ == "__main__":
    folder, weights, positive, epochs, seed = sys.argv[1:]
    print(json.dumps(train(Path(folder), Path(weights), positive, int(epochs), int(seed))))
