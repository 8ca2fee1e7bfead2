"""Steps that change the text of messages, and what they share."""
