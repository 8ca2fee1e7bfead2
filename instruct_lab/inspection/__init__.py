"""Inspection of the data as the model will see it: examples decoded from their token ids, and dropped rows.

Input: an experiment. Output: text for a terminal, JSON, or an HTML page. Call `inspection.inspect`.
"""
