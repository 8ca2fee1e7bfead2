"""Support for editors and shells: JSON Schema of option files, and completion of groups, options and keys.

The schemas and the words for completion are derived from the option files and the component classes.
"""
