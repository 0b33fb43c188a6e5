"""Record files that MXNet itself reads, one by one through their index and in order."""

import io
from pathlib import Path

from PIL import Image
from writers import png

from cnn.data.datasets import Dataset
from cnn.support.backend import mx
from cnn.training.records import write_records


def test_each_record_is_found_by_its_index(tmp_path: Path) -> None:
    images = [(label, png(label)) for label in (2, 0, 1)]
    write_records(tmp_path / "some.rec", images)
    file = mx.recordio.MXIndexedRecordIO(str(tmp_path / "some.idx"), str(tmp_path / "some.rec"), "r")
    assert file.keys == [0, 1, 2]
    for number in (2, 0, 1):
        header, image = mx.recordio.unpack(file.read_idx(number))
        assert (header.label, image) == images[number]


def test_images_are_packed_at_256_px(drawn_dataset: Dataset, records: Path) -> None:
    assert {path.name for path in records.iterdir()} == {
        f"{s}.{e}" for s in ("train", "validation") for e in ("rec", "idx")
    }
    for split in ("train", "validation"):
        file = mx.recordio.MXRecordIO(str(records / f"{split}.rec"), "r")
        for row in drawn_dataset.rows(split):
            header, image = mx.recordio.unpack(file.read())
            opened = Image.open(io.BytesIO(image))
            assert header.label == row.label
            assert min(opened.size) == 256 and opened.format == "JPEG"
        assert file.read() is None
