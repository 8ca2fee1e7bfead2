"""Support for editors and shells: JSON Schema of option files, and completion of groups, options and keys.

Schemas and the words for completion are made from the option files and the component classes.
"""
