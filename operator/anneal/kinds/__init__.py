"""What should be: one pure function `plan` per kind, and the children that it asks for.

No I/O, no clock, no randomness, no Kubernetes client: everything a plan knows is in `Seen` and `now`.
"""
