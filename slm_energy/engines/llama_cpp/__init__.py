"""llama.cpp: the engine and the GGUF file that it reads.

engine               engine `llama_cpp`
session              decoding in llama.cpp's own batches
convenience          decoding with the class that most users call
bindings             the model and context in llama.cpp's C interface
gguf_export          writes the file
gguf_architectures   names and settings of architectures in GGUF
gguf_tokenizer       the tokenizer as GGUF stores it
gguf_weights         reads the weights of a model folder
"""
