"""The data plane of a FineTuneJob: prepare the data, fit the model, publish the artifact.

One program, `python -m anneal_trainer`, does one of the three as its run document says, and may be killed at any moment
and started again: each of them leaves complete files or none, and goes on from what it finds.
"""
