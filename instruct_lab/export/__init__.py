"""What a recorded run gives: answers to prompts, and a plain Hugging Face folder with a model card."""
