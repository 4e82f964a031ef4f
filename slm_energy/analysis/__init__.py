"""Reads a study's trials and says which cell costs less: `build(frame, options(mapping))`."""

from slm_energy.analysis.options import AnalysisOptions, options
from slm_energy.analysis.report import Report, build

__all__ = ["AnalysisOptions", "Report", "build", "options"]
