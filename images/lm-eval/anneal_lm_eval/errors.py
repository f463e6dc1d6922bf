"""What ends a command: a sentence for whoever wrote its arguments, the task or the rows."""

from __future__ import annotations


class TaskError(Exception):
    """The message is a sentence without its full stop."""
