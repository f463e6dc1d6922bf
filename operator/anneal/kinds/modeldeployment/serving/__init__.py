"""One module per serving runtime: what its pod looks like. Nothing else in the operator knows a runtime.

A further runtime is a further module with a `Runtime`, one line here, and a further member of the API's one-of.
"""

from __future__ import annotations

from collections.abc import Mapping

from anneal.api.modeldeployment import ModelDeploymentSpec
from anneal.api.runtimes import RuntimeName
from anneal.api.subjects import Serving
from anneal.kinds.modeldeployment.serving.runtime import Runtime
from anneal.kinds.modeldeployment.serving.triton import TRITON
from anneal.kinds.modeldeployment.serving.vllm import VLLM

BY_NAME: Mapping[RuntimeName, Runtime] = {"triton": TRITON, "vllm": VLLM}


def chosen(one_of: ModelDeploymentSpec | Serving) -> Runtime:
    """The runtime whose member is set; the API sees to it that exactly one is."""
    return next(runtime for name, runtime in BY_NAME.items() if getattr(one_of, name) is not None)
