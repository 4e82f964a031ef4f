"""What is served. Calls go down this list only.

source          which weights a configuration names: their folder, what identifies them, how
                random ones are built
random_weights  a published architecture with seeded random weights
validation      whether a folder holds a model that may be loaded
tokenizer       the tokenizer of a model folder
folder          what the files of a model folder say: content hash, end of text, context length
architecture    what config.json says, made smaller or compared
"""
