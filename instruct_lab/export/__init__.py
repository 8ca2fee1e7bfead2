"""Use a recorded run's model: answer prompts, or write a plain Hugging Face folder with a model card."""
