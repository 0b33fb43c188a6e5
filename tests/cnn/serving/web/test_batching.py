"""Batching: every request gets its own answers, and what cannot be answered soon is refused."""

import asyncio
import threading
from pathlib import Path
from typing import cast

import pytest
from stub_predictor import StubPredictor, application, client_of, encoded

from cnn.evaluation.answers import Answer
from cnn.serving.predictor import Predictor
from cnn.serving.web.batching import Batcher, Busy, Undecodable
from cnn.serving.web.uploads import Limits


def stub(number: int = 1, **settings: object) -> Predictor:
    return cast(Predictor, StubPredictor(Path(f"v{number:04}"), **settings))  # type: ignore[arg-type]


async def answers_of(batcher: Batcher, *requests: tuple[Predictor, list[bytes]]) -> list[list[Answer] | BaseException]:
    async with batcher.running():
        return await asyncio.gather(*(batcher.answer(*request) for request in requests), return_exceptions=True)


def test_requests_get_their_own_answers() -> None:
    colours = ["red", "blue", "red", "red", "blue", "blue", "red"] * 9
    requests = [(stub(1 + place % 3), [encoded(colour)] * (1 + place % 2)) for place, colour in enumerate(colours)]
    batcher = Batcher(200)
    found = asyncio.run(answers_of(batcher, *requests))
    for (predictor, images), colour, answers in zip(requests, colours, found, strict=True):
        assert isinstance(answers, list) and len(answers) == len(images)
        for answer in answers:
            assert answer.label == ("hot_dog" if colour == "red" else "not_hot_dog")
            assert max(answer.probabilities) == pytest.approx(cast(StubPredictor, predictor).sure)
    assert batcher.waiting == 0


def test_images_that_arrive_meanwhile_are_answered_together() -> None:
    batches, ready = [], threading.Event()

    class Counting(StubPredictor):
        def answer(self, views):  # type: ignore[no-untyped-def]
            ready.wait(10)
            batches.append(len(views := list(views)))
            return super().answer(views)

    async def run() -> None:
        async with (batcher := Batcher(100)).running():
            predictor = cast(Predictor, Counting(Path("v0001")))
            asked = [asyncio.create_task(batcher.answer(predictor, [encoded()])) for _ in range(20)]
            await asyncio.sleep(0.3)
            ready.set()
            await asyncio.gather(*asked)

    asyncio.run(run())
    assert sum(batches) == 20 and len(batches) <= 5


def test_an_answer_does_not_wait_for_the_end_of_its_batch() -> None:
    ready, ended = threading.Event(), threading.Event()

    class Slow(StubPredictor):
        def answer(self, views):  # type: ignore[no-untyped-def]
            yield from super().answer(views)
            ready.wait(10)
            ended.set()

    async def run() -> bool:
        async with (batcher := Batcher(10)).running():
            await batcher.answer(cast(Predictor, Slow(Path("v0001"))), [encoded()])
            came_first = not ended.is_set()
            ready.set()
            return came_first

    assert asyncio.run(run())


def test_what_fails_fails_alone() -> None:
    def fail() -> None:
        raise MemoryError

    batcher = Batcher(10)
    bad, good, worse = asyncio.run(
        answers_of(batcher, (stub(), [encoded(), b"no image"]), (stub(), [encoded()]), (stub(before=fail), [encoded()]))
    )
    assert isinstance(bad, Undecodable) and bad.number == 1
    assert isinstance(good, list) and isinstance(worse, MemoryError)
    assert batcher.waiting == 0


def test_a_request_that_is_given_up_stops_nobody() -> None:
    ready = threading.Event()

    async def run() -> list[Answer]:
        async with (batcher := Batcher(10)).running():
            given_up = asyncio.create_task(batcher.answer(stub(before=lambda: bool(ready.wait(10))), [encoded()]))
            await asyncio.sleep(0.2)
            given_up.cancel()
            ready.set()
            return await asyncio.wait_for(batcher.answer(stub(), [encoded()]), 10)

    assert len(asyncio.run(run())) == 1


def test_too_many_are_refused_and_none_is_kept_waiting() -> None:
    batcher = Batcher(5)
    found = asyncio.run(answers_of(batcher, *[(stub(), [encoded()] * 2)] * 4))
    assert [isinstance(each, Busy) for each in found] == [False, False, True, True]
    assert batcher.waiting == 0


def test_the_client_is_told_when_to_try_again(tmp_path: Path) -> None:
    app = application(tmp_path, Limits(images=2, waiting=2))
    with client_of(app) as client:
        app.state.service.batcher.waiting = 2
        response = client.post("/predict", files={"image": ("a", encoded())})
        assert response.status_code == 429 and int(response.headers["retry-after"]) >= 1
        assert client.get("/readyz").status_code == 503
        app.state.service.batcher.waiting = 0
        assert client.post("/predict", files={"image": ("a", encoded())}).status_code == 200
