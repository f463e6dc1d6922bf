"""What the three kinds say alike about the pods that they cause: resources and where to schedule."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from anneal.api.model import ApiModel, ObjectName, Quantity, Rule

LabelValue = Annotated[str, Field(max_length=63, pattern=r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$")]
LabelKey = Annotated[str, Field(max_length=317)]
Product = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$")]
#: What a pod may use when its spec does not say.
DEFAULT_MEMORY = "4Gi"


class Accelerator(ApiModel):
    """Accelerators as the device plugin names them, or as a claim asks for them (dynamic resource allocation)."""

    RULES = (
        Rule(
            cel="!has(self.resourceName) || !has(self.resourceClaimTemplateName)",
            holds=lambda wanted: (
                wanted.resource_claim_template_name is None or "resource_name" not in wanted.model_fields_set
            ),
            message="resourceName and resourceClaimTemplateName are two ways to ask for the same accelerators: set one"
            " of them",
        ),
    )

    resource_name: str = Field(
        default="nvidia.com/gpu",
        pattern=r"^[a-z0-9.-]{1,63}/[A-Za-z0-9._-]{1,63}$",
        max_length=127,
        description="Extended resource that the device plugin advertises. Default: nvidia.com/gpu.",
    )
    resource_claim_template_name: ObjectName | None = Field(
        default=None,
        description="Instead of resourceName: a ResourceClaimTemplate (resource.k8s.io) of the object's namespace, of"
        " which every pod gets a claim of its own. It chooses the devices, as many as perNode says; products and"
        " minMemory say of which kind they are, for the estimate, and choose no node. Default: none.",
    )
    per_node: int = Field(default=1, ge=1, le=16, description="Accelerators for each pod. Default: 1.")
    products: list[Product] = Field(
        default_factory=list,
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
        description="Products that will do: the pods run on nodes whose label nvidia.com/gpu.product is one of them,"
        ' such as "NVIDIA-H100-80GB-HBM3". Default: any.',
    )
    min_memory: Quantity | None = Field(
        default=None,
        description="Least memory of one accelerator, in bytes, by the node label nvidia.com/gpu.memory. A card of 80"
        ' GB shows a little less than 80Gi: write "80G". Default: any.',
    )

    @property
    def asked_for(self) -> str:
        """By which name: the template's or the extended resource's."""
        return self.resource_claim_template_name or self.resource_name


class Resources(ApiModel):
    """What one pod asks for."""

    accelerator: Accelerator | None = Field(
        default=None, description="Accelerators for each pod. Default: none, the work runs on CPU."
    )
    cpu: Quantity | None = Field(
        default=None,
        description="CPU request for each pod, in cores. No limit is set: idle cores may be used. Default: 1.",
    )
    memory: Quantity | None = Field(
        default=None, description="Memory request and limit for each pod, in bytes. Default: 4Gi."
    )


class Toleration(ApiModel):
    """A taint that the pods tolerate, as in pod.spec.tolerations."""

    key: str | None = Field(default=None, max_length=316, description="Taint key; absent means all keys.")
    operator: Literal["Exists", "Equal"] | None = Field(
        default=None, description="How key and value are compared. Default: Equal."
    )
    value: str | None = Field(default=None, max_length=63, description="Taint value. Default: empty.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="Effect to tolerate; absent means all effects."
    )


class Scheduling(ApiModel):
    """Where pods may run. Passed to every pod that does the object's work."""

    priority_class_name: str | None = Field(
        default=None, max_length=253, description="PriorityClass of the pods. Default: the cluster's."
    )
    node_selector: dict[LabelKey, LabelValue] = Field(
        default_factory=dict, max_length=16, description="Labels that a node must have. Default: none."
    )
    tolerations: list[Toleration] = Field(
        default_factory=list,
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
        description="Taints that the pods tolerate. Default: none.",
    )
