"""llama.cpp: the engine and the GGUF file that it reads.

engine               engine `llama_cpp`
session              decoding over llama.cpp's own batches
convenience          decoding with the class that most users call
bindings             the calls of llama-cpp-python that both use
gguf_export          makes the file: `gguf_architectures`, `gguf_tokenizer`, `gguf_weights`
"""
