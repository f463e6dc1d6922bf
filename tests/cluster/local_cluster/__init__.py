"""A real Kubernetes on one machine, without Docker: what Anneal's tests and demo run on."""
