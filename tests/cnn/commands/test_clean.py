"""``python -m cnn clean``: what it refuses."""

import pytest
from object_storage import BUCKET

from cnn.__main__ import main
from cnn.support.errors import UserError


def test_address_is_refused() -> None:
    with pytest.raises(UserError, match="s3://bucket/store: only folders are cleaned; a lifecycle rule"):
        main(["clean", "--store", f"{BUCKET}/store"])
