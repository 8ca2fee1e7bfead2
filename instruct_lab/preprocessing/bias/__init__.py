"""How groups of people are written about."""
