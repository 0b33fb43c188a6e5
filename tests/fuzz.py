"""Damaged files for each reader of archives: every one is read, or refused in a sentence.

The tests try a few; python tests/fuzz.py READER --seconds 180 tries as many as there is time for.
"""

import argparse
import gzip
import hashlib
import resource
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import pyarrow as pa
from cifar_batches import BATCHES, IMAGES, batches, tar
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from writers import labelled_files, write_parquet, write_records, write_zip

from cnn.data.catalog import CIFAR10_BATCHES
from cnn.data.sources import cifar, open_source
from cnn.support.errors import UserError

FILES = labelled_files("train", "test", count=3)
ODD = [bytes([value] * size) for value in (0, 1, 0x7F, 0x80, 0xFF) for size in (1, 2, 4, 8, 12)]


def zip_file(folder: Path, method: int) -> bytes:
    return write_zip(folder / "a.zip", FILES, method).read_bytes()


def records(folder: Path) -> bytes:
    return write_records(
        folder / "a.rec", [(number % 2, data) for number, data in enumerate(FILES.values())]
    ).read_bytes()


def parquet(folder: Path) -> bytes:
    labels = pa.array([number % 2 for number in range(len(FILES))])
    return write_parquet(folder / "a.parquet", labels, list(FILES.values()), ["a", "b"]).read_bytes()


def damaged(whole: bytes) -> st.SearchStrategy[bytes]:
    """The file with some of its parts overwritten, cut out, doubled or made odd; or any bytes at all."""
    place = st.integers(0, len(whole))
    change = st.tuples(
        st.sampled_from(["write", "cut", "double", "end"]), place, st.integers(0, 64), st.binary(max_size=16)
    )
    odd = st.tuples(st.just("write"), place, st.just(0), st.sampled_from(ODD))
    return (
        st.lists(st.one_of(odd, change), min_size=1, max_size=6).map(lambda changes: _apply(whole, changes))
        | st.binary()
    )


def _apply(data: bytes, changes: list[tuple[str, int, int, bytes]]) -> bytes:
    for kind, at, size, new in changes:
        end = {"write": at + len(new), "cut": at + size, "double": at, "end": len(data)}[kind]
        middle = {"write": new, "cut": b"", "double": data[at : at + size], "end": b""}[kind]
        data = data[:at] + middle + data[end:]
    return data


def readers(folder: Path) -> dict[str, tuple[st.SearchStrategy[bytes], Callable[[Path, bytes], Path]]]:
    """By the name of each reader: damaged files, and how one is written to be read by it."""

    def as_file(name: str) -> Callable[[Path, bytes], Path]:
        def write(place: Path, data: bytes) -> Path:
            (place / name).write_bytes(data)
            return place / name

        return write

    def as_records(place: Path, data: bytes) -> Path:
        (place / "x_train.rec").write_bytes(data)
        (place / "x_val.rec").write_bytes(whole_records)
        return place

    whole_records, whole_tar = records(folder), tar(batches("data_batch_1.bin", "test_batch.bin"))
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    return {
        "zip": (st.one_of([damaged(zip_file(folder, method)) for method in methods]), as_file("x.zip")),
        "records": (damaged(whole_records), as_records),
        "cifar": (
            damaged(whole_tar).map(lambda data: gzip.compress(data, 1)) | damaged(gzip.compress(whole_tar)),
            as_file("x.tar.gz"),
        ),
        "parquet": (damaged(parquet(folder)), as_file("x.parquet")),
    }


def outcome(path: Path) -> str:
    """Read what a source holds: "read", or "refused" if it says a sentence; anything else is an error."""
    try:
        source = open_source(path)
        source.counts()
        source.notes()
        source.caveats()
        assert all(image.name and "\n" not in image.name for image in source.images())
    except UserError as error:
        assert "expected" in str(error) and "\n" not in str(error)
        return "refused"
    return "read"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reader")
    parser.add_argument("--seconds", type=float, default=180)
    options = parser.parse_args()
    cifar.IMAGES = IMAGES
    CIFAR10_BATCHES.update({name: hashlib.sha1(data).hexdigest() for name, data in BATCHES.items()})
    found: Counter[str] = Counter()
    slowest, start, number = 0.0, time.monotonic(), 0
    with tempfile.TemporaryDirectory() as folder:
        inputs, write = readers(Path(folder))[options.reader]
        place = Path(folder) / "place"
        place.mkdir()

        def check(data: bytes) -> None:
            nonlocal slowest
            began = time.monotonic()
            try:
                found[outcome(write(place, data))] += 1
            except Exception as error:
                found[f"ERROR {type(error).__name__} at {traceback.format_tb(error.__traceback__)[-1][:200]!r}"] += 1
                (Path(tempfile.gettempdir()) / f"fuzz-{options.reader}-{type(error).__name__}").write_bytes(data)
            slowest = max(slowest, time.monotonic() - began)

        while time.monotonic() - start < options.seconds:
            few = settings(max_examples=500, deadline=None, database=None, suppress_health_check=list(HealthCheck))
            few(seed(number)(given(inputs)(check)))()
            number += 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{options.reader}: {time.monotonic() - start:.0f} s, {found.total():,} inputs, {dict(found)}, ", end="")
    print(f"slowest {slowest:.2f} s, peak {peak:.0f} MiB")


if __name__ == "__main__":
    main()
