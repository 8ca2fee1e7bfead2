"""Steps that drop or select rows."""
