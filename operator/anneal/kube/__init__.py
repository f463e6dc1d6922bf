"""The only door to the API server: everything else speaks to it through `interface.Cluster`."""
