"""A report in sentences.

findings       the verdict, and notes
caveats        limits of the data
methods        how the figures were obtained, for a paper
disagreement   where the conventional tests disagree, and why
independent    all of these for repetitions that are not rounds
phrases        how figures are worded everywhere
"""
