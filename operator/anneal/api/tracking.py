"""Where else a finished training is told of: servers that keep the curves of many trainings side by side."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from anneal.api.model import ApiModel, Sentence
from anneal.api.references import LocalReference

Experiment = Annotated[str, Field(min_length=1, max_length=256)]


class MLflow(ApiModel):
    """An MLflow tracking server. The pod that publishes the artifact sends it the curve; training has no network."""

    secret_ref: LocalReference = Field(
        description="Secret that only the publishing pod mounts, with MLflow's own names: MLFLOW_TRACKING_URI; if the"
        " server asks for them, MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD; and"
        " ca.crt (PEM) for a server whose certificate no public authority has signed."
    )
    experiment: Experiment = Field(
        default="anneal", description="Experiment that gets a run; it is made if it is not there. Default: anneal."
    )


class Tracking(ApiModel):
    """Who is told of the training once it has ended. Whoever cannot be told costs no artifact."""

    mlflow: MLflow | None = Field(default=None, description="MLflow. Default: none.")


class TrackingStatus(ApiModel):
    """What became of telling."""

    run_uri: str | None = Field(
        default=None, max_length=1024, description="Page of the run in MLflow; absent when it could not be told."
    )
    message: Sentence = Field(description="What was told, or why it could not be.")
