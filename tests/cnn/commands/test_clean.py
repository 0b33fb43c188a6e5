"""``python -m cnn clean``: what it refuses."""

import pytest
from object_storage import BUCKET

from cnn.__main__ import main


def test_address_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["clean", "--store", f"{BUCKET}/store"])
    assert "s3://bucket/store: only folders are cleaned; a lifecycle rule" in capsys.readouterr().err
