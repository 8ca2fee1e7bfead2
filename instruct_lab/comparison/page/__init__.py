"""The HTML page of a comparison: its data, its columns and the scripts that draw it."""
