"""Write a decoder as a GGUF file, which llama.cpp, Ollama and LM Studio run.

From a loaded model and its tokenizer, this package writes one file with weights, vocabulary and chat template. It uses
the package `gguf` of the llama.cpp project for the file format, the names of tensors and the quantised number types.
The file has the metadata that llama.cpp's converter writes. Source:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""
