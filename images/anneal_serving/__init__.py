"""The program inside the serving images: it lays out what Triton or vLLM reads, proves that every model answers, and
is the Python backend by which Triton answers chat requests.

Only `generate`, `loading` and `backend` need torch; `layout` and `probe` start in well under a second.
"""
