"""The one error of this package: a sentence that says what is wrong, where, and what to do."""

from __future__ import annotations


class ClusterError(Exception):
    """The local cluster cannot do what was asked."""
