"""A report in sentences.

findings       the verdict, and what a reader must know
caveats        limits of the data
methods        how the figures came about, for a paper
disagreement   why the conventional tests say otherwise
phrases        how figures are worded wherever they stand
"""
