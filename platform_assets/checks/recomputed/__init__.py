"""Each report computed once more, from its inputs, by Polars: what the check `consistency` compares a report with.

Written from what the reports' docstrings promise, not from how the reports are computed. Imports Polars: import it
inside functions.
"""
