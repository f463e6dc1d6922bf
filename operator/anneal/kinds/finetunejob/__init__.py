"""FineTuneJob: prepare, fit, publish, each a Job that begins when the result of the last one is recorded."""

from anneal.kinds.finetunejob.plan import KIND_ROW

__all__ = ["KIND_ROW"]
