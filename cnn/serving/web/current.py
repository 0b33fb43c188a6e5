"""The current champion: which version answers now; a new champion takes its place without a restart."""

import asyncio
import logging
from collections.abc import Callable

from cnn.publication.records import CHAMPION_FILE
from cnn.serving.predictor import Predictor
from cnn.support.errors import UserError
from cnn.support.remote import refresh

logger = logging.getLogger(__name__)

_SECONDS = 1.0


class CurrentChampion:
    """The version that answers now.

    A request takes `predictor` once and keeps it to its end, so that its answer comes from one version.

    Attributes:
        predictor: the version that answers.
        problem: why a newer champion does not answer in its place; empty: there is none.
    """

    def __init__(self, load: Callable[[], Predictor]) -> None:
        """Load the champion, now and whenever it may have been replaced; raises what ``load`` raises."""
        self._load = load
        self.predictor, self.problem = load(), ""
        self._file = self.predictor.version.parent / CHAMPION_FILE
        self._seen: tuple[int, ...] | None = None

    async def watch(self) -> None:
        """`refresh` every second, until it is cancelled."""
        while True:
            await asyncio.sleep(_SECONDS)
            await asyncio.to_thread(self.refresh)

    def refresh(self) -> None:
        """Load the champion if ``champion.json`` has changed since; if that fails, the former one goes on answering."""
        seen = self._look()
        if seen is None or seen == self._seen:
            return
        try:
            predictor = self._load()
        except Exception as error:
            self._report(error)
            return
        self._seen, self.problem = seen, ""
        if predictor.version != self.predictor.version:
            logger.info("%s answers now, in place of %s.", predictor.version, self.predictor.version)
            self.predictor = predictor

    def _look(self) -> tuple[int, ...] | None:
        """What is different once ``champion.json`` was replaced; None: it cannot be read."""
        try:
            refresh(self._file)
            found = self._file.stat()
        except (OSError, UserError):
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _report(self, error: Exception) -> None:
        is_fault = not isinstance(error, UserError)
        reason = f"loading it failed: {error!r}" if is_fault else str(error)
        problem = f"The new champion does not answer: {reason}"
        if problem != self.problem:
            logger.warning("%s %s goes on answering.", problem, self.predictor.version, exc_info=is_fault)
        self.problem = problem
