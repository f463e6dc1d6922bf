"""ModelDeployment: what should be of it, and why it is as it is."""

from anneal.kinds.modeldeployment.plan import KIND_ROW

__all__ = ["KIND_ROW"]
