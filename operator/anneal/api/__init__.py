"""The contract: what users declare, what the operator answers, and what passes between operator and pods.

One module per kind; `conditions` and `references` are what the kinds share; `runs` is what a pod is told and what
it answers; `artifacts` is what a trained model looks like on disk; `crd` generates `crds/` from all of it.
Everything else in the repository depends on this package, so it depends on nothing but pydantic.
"""

GROUP = "anneal.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
