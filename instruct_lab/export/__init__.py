"""What a recorded run is used for: answers to prompts, and a plain Hugging Face folder with a model card."""
