"""What is fetched from elsewhere: where from, as whom, where to, and what it turned out to be.

Whatever can change behind a name (a branch, an object, a page) is looked up once; from then on status says which one it
was, and every later step works with that.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from anneal.api.model import ApiModel, Rule
from anneal.api.references import Endpoint, LocalReference, MirrorUri, ModelUri, PvcUri

KEYS_DESCRIPTION = (
    "Secret that only the fetching pod mounts, with the keys that the scheme knows: HF_TOKEN for hf://;"
    " AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, if wanted, AWS_SESSION_TOKEN and AWS_REGION for s3://;"
    " gcloud-application-credentials.json, the key of a service account, for gs://; .dockerconfigjson for oci://;"
    " ca.crt (PEM) for a server whose certificate no public authority has signed. Default: none, the source is public."
)
ENDPOINT_DESCRIPTION = (
    "URL of the Hub (hf://), of the object store (s3://, gs://) or of the registry (oci://, where pods reach it by"
    " another name or without encryption), such as https://hub.example.com. Default: the operator's Hub; Amazon S3;"
    " Google Cloud Storage; https:// and the registry's name."
)

#: What cannot change behind a name: a commit, or the digest of the content.
Immutable = Annotated[str, Field(pattern=r"^([a-f0-9]{40,64}|sha256:[a-f0-9]{64})$", max_length=71)]


class BaseModelSource(ApiModel):
    """The model to start from."""

    RULES = (
        Rule(
            cel="self.uri.startsWith('pvc://') != has(self.cache)",
            holds=lambda model: model.uri.startswith("pvc://") != (model.cache is not None),
            message="cache says where a fetched model is kept: set it with hf://, s3://, gs:// and oci://, leave it"
            " out with pvc://",
        ),
        Rule(
            cel="!self.uri.startsWith('pvc://') || !(has(self.secretRef) || has(self.endpoint))",
            holds=lambda model: not (model.uri.startswith("pvc://") and (model.secret_ref or model.endpoint)),
            message="secretRef and endpoint are for a model that is fetched (hf://, s3://, gs://, oci://), not for"
            " pvc://",
        ),
    )

    uri: ModelUri = Field(
        description="Hugging Face model (config.json, *.safetensors, tokenizer): a directory, pvc://claim/path; a"
        " repository of a Hub, hf://owner/name[:revision], where the revision is a branch, a tag or a commit (default:"
        " main); a folder of objects, s3://bucket/prefix or gs://bucket/prefix; or an image with the files in /models,"
        " or an artifact of files, oci://registry/repository[:tag][@digest] (default of the tag: latest)."
    )
    secret_ref: LocalReference | None = Field(default=None, description=KEYS_DESCRIPTION)
    endpoint: Endpoint | None = Field(default=None, description=ENDPOINT_DESCRIPTION)
    cache: PvcUri | None = Field(
        default=None,
        description="Directory, pvc://claim/path, that a fetched model is kept in, in a folder of its own for each"
        " revision. Training reads it there, and so do Evaluations and ModelDeployments of the artifact; jobs that name"
        " the same directory share it. Needed with hf://, s3://, gs:// and oci://; nothing in it is ever deleted."
        " Default: none.",
    )


class Mirror(ApiModel):
    """A second copy of the artifact, in object storage or a registry: for other clusters and other servers."""

    RULES = (
        Rule(
            cel="!self.uri.matches('^(s3|gs)://') || has(self.secretRef)",
            holds=lambda mirror: not mirror.uri.startswith(("s3://", "gs://")) or mirror.secret_ref is not None,
            message="a mirror at s3:// or gs:// needs secretRef: nobody may write to a bucket without keys",
        ),
    )

    uri: MirrorUri = Field(
        description="Folder of objects, s3://bucket/prefix or gs://bucket/prefix: the artifact gets a folder below it,"
        " named as in output.uri; it is complete when its anneal-manifest.json is there. Or a repository,"
        " oci://registry/repository[:tag]: the artifact becomes an image with its files in /models; the default of the"
        " tag is the name of that folder."
    )
    secret_ref: LocalReference | None = Field(
        default=None,
        description="Secret that only the publishing pod mounts. For s3://: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY"
        " and, if wanted, AWS_SESSION_TOKEN and AWS_REGION. For gs://: gcloud-application-credentials.json, the key of"
        " a service account. For oci://: .dockerconfigjson, as kubectl create secret docker-registry makes it."
        " ca.crt (PEM) for a server whose certificate no public authority has signed. Default: none, anybody may write"
        " to that registry.",
    )
    endpoint: Endpoint | None = Field(
        default=None,
        description="URL of the object store, such as https://s3.example.com, or of the registry, where pods reach it"
        " by another name than nodes or without encryption, such as http://registry.storage.svc:5000. Default: Amazon"
        " S3; Google Cloud Storage; https:// and the registry's name.",
    )


class Resolved(ApiModel):
    """What stood behind the names in spec when they were looked up."""

    model: Immutable = Field(
        description="Commit of an hf:// model; digest of the manifest of an oci:// one; of any other, of its files."
    )
    sources: list[Immutable] = Field(
        default_factory=list,
        max_length=17,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
        description="The same of each of dataset.sources, in their order; dataset.split.heldOutSource last.",
    )
