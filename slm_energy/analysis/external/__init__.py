"""A table that was measured elsewhere, analysed as far as it allows.

columns     what its columns are: conf/columns/NAME.yaml
table       the file, as trials
report      the analysis, labelled as its authors' data
savings     savings over models, as studies of serving report them
claims      what its authors say, and whether it follows
"""

from slm_energy.analysis.external.report import ExternalReport, analyse

__all__ = ["ExternalReport", "analyse"]
