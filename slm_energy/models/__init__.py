"""What is served.

source           where weights come from: the package, a folder, a hub
architecture     what config.json says of a model
random_weights   the same architecture with seeded random weights
"""
