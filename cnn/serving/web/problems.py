"""Problems: why a request is not answered, as RFC 9457's problem JSON."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from cnn.support.text import printable

MEDIA_TYPE = "application/problem+json"
_SENTENCES = {
    404: "There is nothing at this address; /openapi.json lists what there is.",
    405: "This address does not take that method; the header Allow names those that it takes.",
    500: "The server failed at this request; its log says why.",
}


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The answer to a request that is not served; ``detail`` is a sentence."""
    content = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return JSONResponse(content, status, dict(headers or {}), MEDIA_TYPE)


def described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Problems of these statuses as `responses` of a route."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in statuses
    }


def handle_problems(app: FastAPI) -> None:
    """Answer every error of the application with problem JSON."""
    app.add_exception_handler(HTTPException, _of_status)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(ClientDisconnect, _of_nobody)
    app.add_exception_handler(Exception, _of_mistake)


async def _of_status(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    is_sentence = error.detail != HTTPStatus(error.status_code).phrase
    sentence = error.detail if is_sentence else _SENTENCES.get(error.status_code, error.detail)
    return problem(error.status_code, sentence, error.headers)


async def _of_validation(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"][1:]) or "the body"
    return problem(422, printable(f"{name}: {first['msg']}."))


async def _of_nobody(request: Request, error: Exception) -> JSONResponse:
    return problem(400, "The connection ended before the request did.")  # for the measures: nobody reads it


async def _of_mistake(request: Request, error: Exception) -> JSONResponse:
    return problem(500, _SENTENCES[500])
