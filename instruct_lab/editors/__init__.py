"""Support for editors and shells: JSON Schema of option files, and completion of groups, options and keys.

In: the options and the component classes. Out: schemas, and the lists that a shell completes from.
"""
