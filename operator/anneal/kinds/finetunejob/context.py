"""What the rules look at: the observation and the moment, read into the terms of the API once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from pydantic import ValidationError

from anneal.api.finetunejob import FineTuneJobSpec, FineTuneJobStatus
from anneal.kinds.contract import Seen
from anneal.kinds.times import seconds_since


@dataclass(frozen=True)
class Context:
    """One pass over one FineTuneJob."""

    seen: Seen
    now: datetime

    @cached_property
    def spec(self) -> FineTuneJobSpec:
        """What is wanted. Only for rules after `spec_is_invalid`: raises ValidationError for a bad spec."""
        return FineTuneJobSpec.model_validate(self.seen.obj["spec"])

    @cached_property
    def status(self) -> FineTuneJobStatus:
        """What was recorded so far; empty when there is nothing that can be read."""
        try:
            return FineTuneJobStatus.model_validate(self.seen.status)
        except ValidationError:
            return FineTuneJobStatus()

    @property
    def deadline_in(self) -> float | None:
        """Seconds until activeDeadlineSeconds is over, None without one or while its clock stands still."""
        limit, since = self.spec.active_deadline_seconds, self.status.active_since
        return None if limit is None or since is None else limit - seconds_since(since, self.now)
