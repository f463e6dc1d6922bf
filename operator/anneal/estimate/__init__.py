"""Memory, time and cost of a training, worked out from numbers alone.

Pure arithmetic, without torch and without I/O, so that the operator can say it before an accelerator is taken and the
training pod can work with the same formulas once it sees its real memory.
"""
