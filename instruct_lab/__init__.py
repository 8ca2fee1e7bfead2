"""A configuration-driven experiment framework for instruction-tuning language models."""

__version__ = "0.1.0"
