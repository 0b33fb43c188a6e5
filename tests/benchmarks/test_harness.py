"""What all benchmarks share."""

from argparse import ArgumentParser, Namespace

import pytest

from benchmarks.harness import describe_conditions, parse


def parse_two(*arguments: str) -> Namespace:
    parser = ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    return parse(parser, arguments, ["data"], epochs=1)


def test_quick_mode_needs_no_path() -> None:
    assert parse_two("--data", "photos").epochs == 10
    assert parse_two("--quick").epochs == 1
    assert parse_two("--quick", "--epochs", "2").epochs == 2
    with pytest.raises(SystemExit):
        parse_two("--epochs", "2")


def test_conditions_name_what_figures_depend_on() -> None:
    line = describe_conditions(2, [0, 7])
    assert line.startswith("n 2, seeds 0 7, ") and " cores of " in line and "OMP_NUM_THREADS=" in line
