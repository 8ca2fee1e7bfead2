"""Export a recorded run's model, with a model card, for use with transformers, PEFT, llama.cpp, Ollama or vLLM."""
