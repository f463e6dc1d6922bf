"""The program inside the evaluator image: ask every model the held-out rows, score, decide, report.

It is only an HTTP client of the server that production will run, so that what is judged is what is served.
The order of the files is that of the work: held_out, respond (answers), score (metrics), statistics, decide, report.
"""
