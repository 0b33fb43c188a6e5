"""Settings that every flow has: where things come from and go to, on what and with which seed."""

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from cnn.backend import pick_devices
from cnn.catalog import DATASETS
from cnn.errors import UserError
from cnn.files import require_writable
from cnn.recipes import RecipeName

MIRROR = "HOTDOG_MIRROR"
#: A path in which ~ is the user's home.
Folder = Annotated[Path, AfterValidator(Path.expanduser)]


def _plain_optionals(schema: dict[str, Any]) -> None:
    """Describe an optional setting by what it may be and not as a choice between that and nothing.

    Forms show a plain field for it then, and a refusal says what is wrong and not that no choice fits.
    """
    for setting in schema["properties"].values():
        if {"type": "null"} in setting.get("anyOf", []):
            setting |= next(choice for choice in setting.pop("anyOf") if choice != {"type": "null"})
            del setting["default"]


class FlowSettings(BaseModel):
    """What all flows share; each flow says what its data may be, and its own settings follow."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra=_plain_optionals)

    data: str
    recipe: RecipeName = Field("tuned", description="how to train")
    device: Annotated[str, StringConstraints(pattern=r"^(auto|cpu|gpu(:\d+(,\d+)*)?)$")] = Field(
        "auto", description="auto, cpu, gpu, or gpu:0,1 for several"
    )
    mirror: str | None = Field(
        None, description=f"folder or URL that is asked first for every download; or environment variable {MIRROR}"
    )
    store: Folder = Field(Path("data"), description="folder for downloads, prepared data, features and checkpoints")
    models: Folder = Field(Path("artifacts"), description="folder for published model versions")
    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$")] | None = Field(
        None, description="name of the model; default: from the data"
    )
    seed: int = Field(0, ge=0, lt=2**31, description="decides everything that is left to chance")
    min_new: int = Field(
        0, ge=0, description="train only if so many pictures are new since the last version; 0: whatever has changed"
    )
    notify: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]+/[a-z0-9-]+$")] | None = Field(
        None, description="Prefect notification block TYPE/NAME that hears of failed, crashed and cancelled runs"
    )

    def check(self) -> None:
        """Refuse before any work what cannot work: a GPU that cannot be used, a folder that cannot be written to.

        Raises:
            UserError: names the setting and what to do.
        """
        pick_devices(self.device)
        require_writable(self.store, "--store")
        require_writable(self.models, "--models")


def model_name(data: str, wanted: str | None) -> str:
    """Name of the model: as wanted, or from the data; the sample's never is a real model's.

    Raises:
        UserError: the sample would be published under a name that does not say so.

    >>> model_name("photos/My Pets.zip", None), model_name("hotdog-records", None)
    ('my-pets', 'hotdog')
    """
    if data == "sample":
        if wanted and not wanted.endswith("-sample"):
            raise UserError(f"--name {wanted}: a model of drawn pictures needs a name that ends in -sample.")
        return wanted or "hotdog-sample"
    if wanted or data in DATASETS:
        return wanted or data.partition("-")[0]
    return re.sub(r"[^a-z0-9]+", "-", Path(data).resolve().stem.lower()).strip("-") or "model"
