"""Images and networks: everything that the pipeline knows about them, usable from a Python prompt without Prefect.

The names below are the map of the package; each is imported when it is first used.

    prepare              any source of labelled images → a dataset on disk          cnn.data.preparation
    Dataset              a prepared dataset                                         cnn.data.datasets
    pretrained           a file of SqueezeNet 1.1's weights → a checkpoint          cnn.training.checkpoints
    hotdog_recipe        how to train by transfer learning                          cnn.training.recipes
    cifar_recipe         how to train an architecture from scratch; its stage       cnn.training.recipes
    transfer             one stage of transfer learning → a checkpoint              cnn.training.transfer
    train_from_scratch   an architecture from random parameters → a checkpoint      cnn.training.scratch
    save_checkpoint      a checkpoint → a folder                                    cnn.training.checkpoints
    trained_classifier   a checkpoint → a classifier of images                      cnn.evaluation.trained
    evaluate             a saved checkpoint → metrics, predictions, figures         cnn.evaluation.report
    Lineage              where a model comes from                                   cnn.publication.manifest
    publish              a saved checkpoint and its report → a model version        cnn.publication.publishing
    Predictor            a model version that answers, without MXNet                cnn.serving.predictor
"""

import importlib
from typing import Any

_NAMES = dict(line.split()[:: len(line.split()) - 1] for line in (__doc__ or "").splitlines() if " cnn." in line)

__all__ = list(_NAMES)


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; its names are {', '.join(_NAMES)}")
    return getattr(importlib.import_module(_NAMES[name]), name)


def __dir__() -> list[str]:
    return sorted(_NAMES)
