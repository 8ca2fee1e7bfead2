"""Write a decoder as a GGUF file, which llama.cpp, Ollama and LM Studio run.

Input: a loaded model and its tokenizer. Output: one file with weights, vocabulary and chat template. The names of
tensors, the quantised types and the file format are those of the package `gguf`, which llama.cpp maintains; the
metadata are those that llama.cpp's converter writes. Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""
