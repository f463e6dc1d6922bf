"""How it is made so: one loop for every kind, driven by keys and never by the contents of an event.

queue -> worker -> reconciler: observe (reads only) -> the kind's plan (pure) -> apply (writes only). `interests` says
which keys an event wakes, `resync` cures the events that were lost.
"""
