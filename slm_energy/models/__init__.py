"""Models to serve. A module imports only modules below it in this list.

source          weights of a configuration: their folder and identity; building random ones
random_weights  a published architecture with seeded random weights
validation      checks of a model folder before it is loaded
tokenizer       the tokenizer of a model folder
folder          content hash, end-of-text tokens and context length of a model folder
architecture    shrink an architecture, or compare it with config.json
"""
