"""Messages: what the API answers, as its OpenAPI document describes it."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Probability = Annotated[float, Field(ge=0, le=1)]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Address(_Message):
    """Where an image is."""

    url: str = Field(pattern="^https?://", max_length=2000)


class Problem(_Message):
    """Why a request was not answered (RFC 9457)."""

    type: str = Field(description="always about:blank: the status says which kind of problem it is")
    title: str = Field(description="the status in words")
    status: int = Field(ge=400, le=599)
    detail: str = Field(description="one sentence: what is wrong, and what to do")


class Evidence(_Message):
    """Where the network looked."""

    side: float = Field(gt=0, description="side of the centred square that it saw, as a share of the shorter side")
    values: list[list[float]] = Field(
        description="rows from top to bottom of that square: what speaks for the class (positive) or against it"
    )


class Result(_Message):
    """What the network says of one image."""

    image: str = Field("", description="name of the file, where one was sent")
    label: str = Field(alias="class", description="the predicted class")
    probabilities: dict[str, Probability] = Field(description="calibrated, by class")
    novel: bool | None = Field(description="whether it is unlike all training images; null: not known")
    evidence: Evidence | None = Field(None, description="only with ?evidence=true; null: not known")


class Predictions(_Message):
    """What one version says of the images of a request, in their order."""

    version: str
    results: list[Result]


class Threshold(_Message):
    """The probability from which on a class, of two, is predicted."""

    label: str = Field(alias="class")
    probability: Probability


class Figure(_Message):
    """A metric with its 95 % interval, if that is known."""

    value: float
    interval: tuple[float, float] | None


class Version(_Message):
    """The version that answers, and how good it is."""

    name: str
    version: str
    published: str
    classes: list[str]
    threshold: Threshold | None = Field(description="null: the most probable class is predicted")
    positive: str | None = Field(description="class whose F1, precision and recall are meant; null: their means")
    images: dict[str, int] = Field(description="how many images each split's metrics are computed from")
    metrics: dict[str, dict[str, Figure]] = Field(description="by split")
    collects: bool = Field(description="whether POST /corrections is answered")


class Health(_Message):
    """The process is alive."""

    status: str


class Readiness(_Message):
    """Which version answers, and why a newer champion does not, if that is so."""

    version: str
    problem: str


class Collected(_Message):
    """A correction that was kept."""

    label: str
    id: str = Field(description="SHA-256 of the image's size and pixels")
