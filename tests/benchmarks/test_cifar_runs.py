"""Runs, and the table of them."""

from benchmarks.cifar_runs import AS_WRITTEN, Run, table


def test_table_compares_with_the_loop_as_written() -> None:
    written = Run("vgg", AS_WRITTEN, 0, 100, accuracies=[0.4, 0.5], seconds=[6, 6], training_seconds=[5, 5], test=0.5)
    tuned = Run("vgg", "tuned", 0, 100, accuracies=[0.5, 0.7], seconds=[3, 3], training_seconds=[2, 2], test=0.6)
    cells = [cell.strip() for cell in list(table([written, tuned]))[-1].split("|")]
    assert cells[1:-1] == ["vgg", "0", "tuned", "50.0 70.0", "60.0", "6", "2.00", "50", "", "3"]


def test_diverged_training_has_a_row() -> None:
    runs = [Run("vgg", "tuned", 0, 100, [0.5], [2.0], [1.0], test=0.5), Run("vgg", "tuned without schedule", 0, 100)]
    lines = list(table(runs))
    assert len({line.count("|") for line in lines}) == 1
    assert "| tuned without schedule | diverged |" in lines[-1]


def test_seconds_to_an_accuracy() -> None:
    run = Run("vgg", "tuned", 0, 100, accuracies=[0.3, 0.6, 0.5], seconds=[2, 3, 4])
    assert run.seconds_to(0.5) == 5
    assert run.seconds_to(0.7) == float("inf")
