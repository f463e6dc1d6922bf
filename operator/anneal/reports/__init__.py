"""Where running pods tell how far they are: an HTTPS endpoint of the leader, and what it last heard.

Progress is lossy by design. Nothing is decided on it, nothing is stored: a leader that changes, a report that is
refused or a store that is full costs a moment of the progress columns and nothing else. Results go another way, through
the termination message (`api/runs.py`).
"""
