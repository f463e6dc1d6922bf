"""kubectl-anneal: what a person at a terminal wants beyond `kubectl get`: the chain as a live tree, and a question.

It reads the same objects as everybody else and has no rights of its own; the operator does not know it exists.
"""
