"""Evaluations without their figures, which take most of the time: nothing is drawn, and each file has one pixel."""

from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from cnn.evaluation import comparison, plots, report


def leave_out_figures(replace: Callable[[Any, str, Any], None]) -> None:
    """Let ``replace``, such as ``setattr``, put in what stands for the functions that draw."""
    for module in (comparison, report):
        for name in [
            name for name, value in vars(module).items() if getattr(value, "__module__", "") == plots.__name__
        ]:
            replace(module, name, lambda *_: None)
        replace(module, "save_figure", lambda figure, path, notes: Image.new("RGB", (1, 1)).save(path))


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    leave_out_figures(monkeypatch.setattr)
