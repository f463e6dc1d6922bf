"""Anneal: a Kubernetes operator that takes a language model from data to production as declared objects."""

__version__ = "0.1.0"
