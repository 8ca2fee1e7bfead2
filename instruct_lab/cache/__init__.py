"""Results on disk by content, and the worker processes that compute them.

In: a chain of stages, each with everything its result depends on. Out: a folder for each result, built once.
"""
