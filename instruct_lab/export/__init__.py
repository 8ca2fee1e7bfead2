"""Use of a recorded run's model: answering prompts, and writing a plain Hugging Face folder with a model card."""
