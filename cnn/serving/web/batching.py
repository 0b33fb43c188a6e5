"""Batching: images of concurrent requests are answered together, and no more wait than can be answered soon."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from itertools import groupby
from typing import NamedTuple

from PIL import Image

from cnn.data.decoding import NotAnImageError
from cnn.evaluation.answers import Answer
from cnn.serving.predictor import Predictor
from cnn.support.parallel import physical_cores

_AT_ONCE = 32


class Busy(Exception):
    """More images wait than are allowed."""


class Undecodable(Exception):
    """An image of a request cannot be decoded; ``number`` counts from 0."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(reason)
        self.number = number


class _Job(NamedTuple):
    predictor: Predictor
    view: Image.Image
    answer: "asyncio.Future[Answer]"


class Batcher:
    """Answers the images of all requests, in batches of what has arrived while the batch before was answered.

    An image that arrives alone never waits for others (compare Crankshaw et al. 2017, "Clipper", adaptive batching).

    Attributes:
        waiting: images that were accepted and are not answered yet.
        limit: of these.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.waiting = limit, 0
        self._jobs: asyncio.Queue[_Job] = asyncio.Queue()

    async def answer(self, predictor: Predictor, images: Sequence[bytes]) -> list[Answer]:
        """The answers to encoded images, all by this predictor; only within `running`.

        Raises:
            Busy: too many images wait already.
            Undecodable: one of them is not an image.
        """
        if self.waiting + len(images) > self.limit:
            raise Busy
        self.waiting += len(images)
        try:
            views = await self._decode(predictor, images)
            jobs = [_Job(predictor, view, asyncio.get_running_loop().create_future()) for view in views]
            for job in jobs:
                self._jobs.put_nowait(job)
            return list(await asyncio.gather(*(job.answer for job in jobs)))
        finally:
            self.waiting -= len(images)

    async def _decode(self, predictor: Predictor, images: Sequence[bytes]) -> list[Image.Image]:
        """What the network sees of each; waits for all, even if one of them fails."""
        loop = asyncio.get_running_loop()
        views = [loop.run_in_executor(self._decoders, predictor.view, image) for image in images]
        found = await asyncio.gather(*views, return_exceptions=True)
        for number, view in enumerate(found):
            if isinstance(view, NotAnImageError):
                raise Undecodable(number, str(view)) from view
            if isinstance(view, BaseException):
                raise view
        return [view for view in found if isinstance(view, Image.Image)]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Answer for as long as the block lasts."""
        with (
            ThreadPoolExecutor(physical_cores(), "decode") as self._decoders,
            ThreadPoolExecutor(1, "answer") as self._answerer,
        ):
            task = asyncio.create_task(self._run())
            try:
                yield
            finally:
                task.cancel()

    async def _run(self) -> None:
        while True:
            batch = [await self._jobs.get()]
            while not self._jobs.empty() and len(batch) < _AT_ONCE:
                batch.append(self._jobs.get_nowait())
            for predictor, jobs in groupby(batch, key=lambda job: job.predictor):
                await self._answer(predictor, list(jobs))

    async def _answer(self, predictor: Predictor, jobs: list[_Job]) -> None:
        """Answer each as soon as its answer is there: those after it in the batch are not waited for."""
        loop = asyncio.get_running_loop()

        def answer() -> None:
            for job, found in zip(jobs, predictor.answer([job.view for job in jobs]), strict=True):
                loop.call_soon_threadsafe(_settle, job, found)

        try:
            await loop.run_in_executor(self._answerer, answer)
        except Exception as error:
            for job in jobs:
                _settle(job, error)


def _settle(job: _Job, found: Answer | Exception) -> None:
    if job.answer.done():  # its request was given up, or others of its batch failed after it was answered
        return
    if isinstance(found, Exception):
        job.answer.set_exception(found)
    else:
        job.answer.set_result(found)
