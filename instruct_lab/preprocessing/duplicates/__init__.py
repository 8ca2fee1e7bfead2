"""Exact and near duplicates, and overlap with held-out texts."""
