"""Saving beside training: steps go on while a checkpoint is brought to the disk.

Only a copy of the tensors is taken between two steps. A thread of its own writes it, as completely or not at all as
`CheckpointStore` does; one checkpoint at a time, so that a disk slower than training slows training down instead of
filling the memory with copies.
"""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from anneal_trainer.fit import memory
from anneal_trainer.fit.checkpoint import CheckpointStore
from anneal_trainer.fit.state import TrainingState
from anneal_trainer.fit.tensors import Content

#: A copy may take at most this share of the memory that is free between two steps: a step needs some of it.
_SHARE_OF_FREE = 0.5
_LOG = logging.getLogger(__name__)


class Saver:
    """Saves into `store`. A context manager: when it ends, nothing is being written any more.

    Attributes:
        saved_step: the step of the newest checkpoint that is whole on the disk.
    """

    def __init__(self, store: CheckpointStore, saved_step: int) -> None:
        self.saved_step = saved_step
        self._store = store
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="saver")
        self._under_way: Future[int] | None = None

    def __enter__(self) -> Saver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(wait=True)
        try:
            self.finish()
        except Exception as error:
            if kind is None:
                raise
            _LOG.warning("the last checkpoint could not be saved either: %s", error)

    def start(self, state: TrainingState, content: Content) -> None:
        """Saves `state` and `content` as they are now; waits for the save before, and for this one if memory is short.

        Raises whatever the save before ended with.
        """
        self.finish()
        counters = state.model_copy(deep=True)
        fits = content.nbytes <= _SHARE_OF_FREE * memory.free_bytes()
        copy = content.copied() if fits else content
        self._under_way = self._thread.submit(self._save, counters, copy)
        if not fits:
            self.finish()

    def check(self) -> None:
        """Takes note of a save that has ended. Raises what it ended with, if that is an error."""
        if self._under_way is not None and self._under_way.done():
            self.finish()

    def finish(self) -> None:
        """Waits until the save under way has ended. Raises what it ended with, if that is an error."""
        if self._under_way is not None:
            under_way, self._under_way = self._under_way, None
            self.saved_step = under_way.result()

    def _save(self, state: TrainingState, content: Content) -> int:
        began = time.monotonic()
        self._store.save(state, content.write)
        _LOG.info("step %d is saved, in %.1f s beside training", state.step, time.monotonic() - began)
        return state.step
