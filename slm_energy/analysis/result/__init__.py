"""The result of an analysis: plain data, independent of how it was made and how it is shown.

report        the whole of it
design        what was run, and how it ended
comparison    the cells of one family, pair by pair
effects       how much each factor matters
population    what holds over models in general
pareto        trade-offs between two metrics
diagnostics   how steady the trials and the machine were
verdict       the words of a verdict
failure       sections that errors kept out
registration  what was declared in advance, and whether the study follows it
metric        what a metric is called, its unit, and which direction is better
"""
