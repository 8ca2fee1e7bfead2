"""The HTML page of a comparison: its data, columns, template and scripts."""
