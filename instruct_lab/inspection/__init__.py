"""The data as the model will see it: examples read back from token ids, and rows that were left out."""
