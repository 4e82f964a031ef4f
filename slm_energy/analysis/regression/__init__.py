"""One study against another: what got worse from A to B, cell by cell.

studies     the comparison and its verdict
manifest    what else differs between the two, and who allowed it
samples     the trials that stand against each other
text        the terminal
"""

from slm_energy.analysis.regression.studies import Across, Side, build, options
from slm_energy.config.options import CompareOptions

__all__ = ["Across", "CompareOptions", "Side", "build", "options"]
