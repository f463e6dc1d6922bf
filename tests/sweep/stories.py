"""All stories, and the kinds that they are about: the real ones."""

from __future__ import annotations

from tests.sweep import serving_stories, training_stories

from anneal.__main__ import KINDS

STORIES = (*training_stories.STORIES, *serving_stories.STORIES)

__all__ = ["KINDS", "STORIES"]
