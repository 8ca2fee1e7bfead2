"""Inspection of the data as the model will see it: examples decoded from their token ids, and dropped rows.

Input: an `Experiment` (a run's configuration). Output: text for a terminal, JSON, or an HTML page. The function to call
is `inspection.inspect`.
"""
