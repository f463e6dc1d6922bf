"""Builds the images without a Docker engine: recipes in, an OCI layout directory out, nothing twice."""
