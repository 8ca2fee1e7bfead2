"""Sources: where rows come from, each with the place it was read from."""
