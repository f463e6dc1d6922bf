"""The demo: the base model and the data that it starts from, and the program that runs the chain before your eyes.

`hub` and `ask` run in the demo's image, inside the cluster; `up` runs on the machine of whoever watches.
"""
