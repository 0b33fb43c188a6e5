"""The OpenAPI document: what FastAPI cannot find out about bodies that are read as they arrive."""

from collections.abc import Callable, Sequence
from typing import Any

from fastapi import FastAPI

from cnn.serving.web.messages import Address, Problem
from cnn.serving.web.uploads import FORM

_IMAGE = {"type": "string", "format": "binary"}


def _form(**fields: Any) -> dict[str, Any]:
    return {"schema": {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}}


#: Bodies by content type: images, and an image with its label.
IMAGES = {
    FORM: _form(image={"type": "array", "items": _IMAGE, "minItems": 1}),
    "image/*": {"schema": _IMAGE},
    "application/octet-stream": {"schema": _IMAGE},
}
CORRECTION = {FORM: _form(image=_IMAGE, label={"type": "string"})}


def complete_document(app: FastAPI, classes: Callable[[], Sequence[str]], fetches: bool) -> None:
    """Have the document of an application define problems, and name the classes that a correction may say.

    With ``fetches`` an image may also be given by its address.
    """
    document = app.openapi()
    if fetches:
        body = document["paths"]["/predict"]["post"]["requestBody"]
        body["content"] = body["content"] | {"application/json": {"schema": Address.model_json_schema()}}
    document["components"]["schemas"]["Problem"] = Problem.model_json_schema()
    correction = document["paths"].get("/corrections")

    def openapi() -> dict[str, Any]:
        if correction:
            form = correction["post"]["requestBody"]["content"][FORM]["schema"]
            form["properties"]["label"]["enum"] = list(classes())
        return document

    app.openapi = openapi  # type: ignore[method-assign]
