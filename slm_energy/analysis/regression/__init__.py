"""One study against another: what got worse from A to B, cell by cell.

comparison  the options, the comparison and its verdict
floors      stored noise floors that are not used
manifest    which cells are the same, what else differs between the studies, and whether it may
samples     the trials that are compared with each other
"""

from slm_energy.analysis.regression.comparison import Side, StudyComparison, build, options
from slm_energy.config.options import CompareOptions

__all__ = ["CompareOptions", "Side", "StudyComparison", "build", "options"]
