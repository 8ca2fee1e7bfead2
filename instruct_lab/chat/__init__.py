"""Conversations with a recorded run's model, in the terminal or on a local page, and answers to single prompts.

Input: one or two recorded runs and what the user types. Output: answers, streamed token by token, equal to those of the
command `generate` for the same messages.
"""
