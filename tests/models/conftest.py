"""The endpoint of progress reports is the one that its own tests use."""

from tests.unit.reports.conftest import endpoint

__all__ = ["endpoint"]
