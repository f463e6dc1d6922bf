"""Asking models behind somebody's HTTP API: what the evaluator and the preparation of data share.

Answers are stored before they are used and costs are noted before they arise, so whatever asks can die at any moment
and pays for nothing twice.
"""
