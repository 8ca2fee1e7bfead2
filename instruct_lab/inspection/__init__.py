"""The data as the model will see it: examples read back from their token ids, and the rows that were dropped.

In: an experiment. Out: text for a terminal, JSON, or a page. Call `inspection.inspect`.
"""
