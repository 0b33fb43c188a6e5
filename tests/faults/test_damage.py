"""Files of the store and Prefect's records damaged after a run: the next run ends as one that nothing happened to."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from candidates import flip_bit
from disturbed import FLOWS, Bench, bench  # noqa: F401  (a fixture)

DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated": lambda file: file.write_bytes(file.read_bytes()[:-1]),
    "emptied": lambda file: file.write_bytes(b""),
    "altered": flip_bit,
    "deleted": Path.unlink,
}
#: One file of each kind that the runs of a flow leave in the store, in order.
KINDS = {
    "hotdog": (
        "datasets/*/train.parquet", "datasets/*/dataset.json", "features/*/*.arrow", "training/*/checkpoint/*.npz",
        "reports/*/metrics.json", "reports/*/predictions-test.parquet", "*/*.json", "digests.json",
    ),
    "cifar": (
        "datasets/*/test.parquet", "pixels/*/*", "training/*/checkpoint/*.npz", "training/*/checkpoint/timings.json",
        "reports/*/*.parquet", "comparisons/*/*.json", "*/*.json", "digests.json",
    ),
    "score": ("scores/*/scores.parquet", "*/*.json", "digests.json"),
}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_store_is_mended(damage: str, flow: str, bench: Bench) -> None:
    bench.undisturbed(flow)
    place = bench.place(flow, f"{flow}-{damage}")
    place.run()
    store = place.folder / "store"
    for kind in KINDS[flow]:
        victim = sorted(path for path in store.glob(kind) if path.is_file())[0]
        DAMAGES[damage](victim)
        worked = [step for step, state in place.run().items() if state == "Completed"]
        print(f"\n{place.folder.name} {kind}: {worked}")
        bench.check(place)
        assert len(worked) <= 2


@pytest.mark.long
@pytest.mark.parametrize("damage", DAMAGES)
def test_what_only_the_notebooks_recipe_keeps_is_mended(damage: str, bench: Bench) -> None:
    place = bench.place("hotdog", f"notebook-{damage}", recipe="notebook", weights="random", epochs="1")
    place.run()
    expected = place.outcome()
    for kind in ("downloads/random/*.npz", "records/*/*"):
        victim = sorted(path for path in (place.folder / "store").glob(kind) if path.is_file())[0]
        DAMAGES[damage](victim)
        worked = [step for step, state in place.run().items() if state == "Completed"]
        print(f"\n{place.folder.name} {kind}: {worked}")
        assert len(worked) == 1 and place.outcome() == expected and not place.left_over()


@pytest.mark.long
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_records_of_prefect_make_steps_run_again(damage: str, bench: Bench) -> None:
    bench.undisturbed("cifar")
    results = bench.folder.parent / "results"
    before = set(results.iterdir())
    place = bench.place("cifar", f"records-{damage}")
    place.run()
    for record in set(results.iterdir()) - before:
        DAMAGES[damage](record)
    place.run()
    bench.check(place)


@pytest.mark.long
def test_deleted_store_is_made_again(bench: Bench) -> None:
    bench.undisturbed("hotdog")
    place = bench.place("hotdog", "no-store")
    place.run()
    shutil.rmtree(place.folder / "store")
    place.run()
    bench.check(place)
