"""Why an evaluation can end without a judgement: one class, the reasons as constants.

None of these is a verdict: a model is never failed by a fault of its data, its server or its settings. Those of asking
are in `anneal_hosted.errors`.
"""

from __future__ import annotations

from anneal_hosted.errors import RunError

# The user's mistakes: the same run fails again.
INVALID_RUN = "InvalidRun"
DIGEST_MISMATCH = "DigestMismatch"
HELD_OUT_EMPTY = "HeldOutEmpty"
HELD_OUT_INVALID = "HeldOutInvalid"
METRIC_UNUSABLE = "MetricUnusable"
ANSWERS_MISSING = "AnswersMissing"
PROMPTS_DIFFER = "PromptsDiffer"
JUDGE_UNUSABLE = "JudgeUnusable"
JUDGE_UNRELIABLE = "JudgeUnreliable"
GUARD_UNUSABLE = "GuardUnusable"
LABELS_INVALID = "HumanLabelsInvalid"
PLUGIN_SCORES_INVALID = "PluginScoresInvalid"
# The user's mistake or not, by what the errors were.
TOO_MANY_ERRORS = "TooManyErrors"
# The infrastructure's: the next try can succeed, and asks only what has no answer yet.
STORAGE_FAILED = "StorageFailed"
INTERNAL_ERROR = "InternalError"

#: The evaluation cannot be judged, for one of the reasons above or one of asking.
EvaluationError = RunError


def mistake(reason: str, message: str) -> EvaluationError:
    """An error that trying again cannot cure."""
    return EvaluationError(reason, message, retryable=False)
