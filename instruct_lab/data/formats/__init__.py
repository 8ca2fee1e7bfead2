"""Formats: how a row becomes a conversation, or several."""
