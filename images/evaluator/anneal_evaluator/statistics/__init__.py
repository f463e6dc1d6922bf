"""Estimates with bounds: which method serves which number, and why.

- Shares and their paired differences, of 0/1 scores of independent rows: score intervals in closed form (`shares`).
- Everything else, that is graded scores, and any score of rows that come in groups: the bootstrap (`bootstrap`).

`make bench-verdicts` measures what they promise: the rate of false passes, power and coverage.
"""
