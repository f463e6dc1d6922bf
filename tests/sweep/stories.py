"""All stories, and the kinds that they are about: the real ones."""

from __future__ import annotations

from tests.sweep import training_stories

from anneal.kinds import evaluation, finetunejob

KINDS = (finetunejob.KIND_ROW, evaluation.KIND_ROW)
STORIES = training_stories.STORIES
