"""Multiply-adds are counted by the network itself, and here by hand."""

import pytest

from benchmarks.arithmetic import multiply_adds


#: Along a side of n px, kernels of 3 px meet 3n - 2. AlexNet's first, of 11 px, meet 6, 10, five times 11, and 9 of 32
#: px; its second, of 5 px, meet 3, 4, 4 and 3 of 4 px.
@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        (
            "alexnet",
            [80**2 * 3 * 96, 14**2 * 96 * 192, 4**2 * 192 * 384, 4**2 * 384 * 384, 4**2 * 384 * 256,
             256 * 4096, 4096**2, 4096 * 10],
        ),
        (
            "vgg",
            [94**2 * 3 * 64, 46**2 * 64 * 128, 22**2 * 128 * 256, 10**2 * 256 * 512, *2 * [10**2 * 512 * 512],
             2048 * 512, 512**2, 512 * 10],
        ),
    ],
)  # fmt: skip
def test_multiply_adds_of_each_layer(architecture: str, expected: list[int]) -> None:
    assert multiply_adds(architecture, side=32) == expected
