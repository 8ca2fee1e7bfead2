"""Inspection of the data as the model will see it: examples decoded from their token ids, and dropped rows.

In: an experiment. Out: text for a terminal, JSON, or an HTML page. Call `inspection.inspect`.
"""
