"""One module per serving runtime: what its pod looks like. Nothing else in the operator knows a runtime.

A further runtime is a further module with the same functions, and a further member of the API's one-of.
"""
