"""A table that somebody else measured, analysed as far as it allows.

columns     what its columns are: conf/columns/NAME.yaml
table       the file, as trials
study       the analysis, its words, the terminal
unblocked   comparisons where repetitions are no rounds
medians     savings over models, as studies of serving report them
claims      what its authors say, and whether it follows
"""

from slm_energy.analysis.external.study import Foreign, analyse, grids, show

__all__ = ["Foreign", "analyse", "grids", "show"]
