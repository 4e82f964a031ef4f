"""The result of an analysis, as plain data; it knows neither how it was made nor how it is shown.

report        the whole of it
design        what was run, and what came of it
comparison    the cells of one family, pair by pair
diagnostics   how steady the trials and the machine were
verdict       the words of a verdict
metric        what a metric is called, its unit, and which direction is better
"""
