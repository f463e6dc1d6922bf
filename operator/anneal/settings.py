"""The operator's configuration: one frozen value, from the environment and, beneath it, a YAML file.

Every setting has one name: `workers` in the file named by ANNEAL_CONFIG, ANNEAL_WORKERS in the environment.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from anneal.estimate.accelerators import KNOWN, AcceleratorType

PREFIX = "ANNEAL_"
#: What the downward API gives, under the names that it has in every pod.
FROM_POD = ("POD_NAME", "POD_NAMESPACE", "POD_IP")


class SettingsError(ValueError):
    """The configuration is wrong; the message says where and how."""


def _words(value: Any) -> Any:
    return tuple(word for word in value.replace(",", " ").split()) if isinstance(value, str) else value


def _yaml(value: Any) -> Any:
    """What is more than a word is YAML (or JSON) in the environment."""
    if not isinstance(value, str):
        return value
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ValueError(f"it is not YAML: {error}") from error


class Settings(BaseModel):
    """How this operator runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trainer_image: str = Field(min_length=1, description="Image of prepare, fit and publish.")
    evaluator_image: str = Field(min_length=1, description="Image of the evaluator.")
    triton_image: str = Field(min_length=1, description="Image of the Triton server.")
    vllm_image: str = Field(min_length=1, description="Image of the vLLM server.")
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = Field(
        default="IfNotPresent", description="Pull policy of these images."
    )
    hub_endpoint: str = Field(
        default="https://huggingface.co",
        pattern=r"^https?://[!-~]+$",
        description="Hugging Face Hub that hf:// means where an object names no endpoint.",
    )
    namespaces: Annotated[tuple[str, ...], BeforeValidator(_words)] = Field(
        default=(), description="Namespaces to serve; none is all."
    )
    accelerators: Annotated[tuple[AcceleratorType, ...], BeforeValidator(_yaml)] = Field(
        default=KNOWN,
        description="What accelerators have and do, for estimates; instead of the table that is built in.",
    )
    prices: Annotated[dict[str, Decimal], BeforeValidator(_yaml)] = Field(
        default={}, description="Price of an accelerator for an hour, by product or by resource name."
    )
    currency: str = Field(default="USD", min_length=1, max_length=8, description="Currency of these prices.")
    workers: int = Field(default=10, ge=1, le=100, description="Objects worked on at the same time.")
    resync_seconds: float = Field(default=600, ge=1, description="Time after which every object is looked at again.")
    kubeconfig: Path | None = Field(default=None, description="Cluster to serve; unset is the one that this runs in.")
    bind_address: str = Field(default="0.0.0.0", description="Address of the HTTP and HTTPS endpoints.")
    health_port: int = Field(default=8080, ge=0, le=65535, description="Port of /healthz, /readyz and /metrics.")
    reports_port: int = Field(default=8443, ge=1, le=65535, description="Port of the endpoint for running pods.")
    reports_service: str = Field(default="anneal-reports", description="Service under which pods reach it.")
    lease_name: str = Field(default="anneal-operator", description="Lease that the leader holds.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(default="INFO", description="Least severe log.")
    pod_name: str = Field(
        default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}",
        min_length=1,
        description="Name of this process among operators.",
    )
    pod_namespace: str = Field(default="anneal-system", min_length=1, description="Namespace of the operator.")
    pod_ip: str | None = Field(default=None, description="Address of this pod; without it, pods report no progress.")


def load(environment: Mapping[str, str]) -> Settings:
    """The settings that an environment gives. Raises SettingsError."""
    file = environment.get(f"{PREFIX}CONFIG")
    values = _read(Path(file)) if file else {}
    values |= {name.lower(): environment[name] for name in FROM_POD if environment.get(name)}
    values |= {
        name: environment[f"{PREFIX}{name.upper()}"]
        for name in Settings.model_fields
        if environment.get(f"{PREFIX}{name.upper()}")
    }
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError("; ".join(_sentence(problem) for problem in error.errors())) from error


def _read(file: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(file.read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        raise SettingsError(f"the configuration file '{file}' cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise SettingsError(f"the configuration file '{file}' is not a mapping of settings to values")
    return values


def _sentence(problem: Any) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "missing":
        return f"{PREFIX}{name.upper()} is not set"
    return f"{PREFIX}{name.upper()} is '{problem['input']}': {problem['msg']}"
