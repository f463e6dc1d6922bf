"""The program inside the serving image: it lays out Triton's model repository, proves that every model answers, and
is the Python backend by which Triton answers chat requests.

Only `generate`, `loading` and `backend` need torch; `layout` and `probe` start in well under a second.
"""
