"""Reads a study's trials and says which cell costs less: `build(frame, options(mapping))`."""

from slm_energy.analysis.frame import one_machine
from slm_energy.analysis.options import AnalysisOptions, options
from slm_energy.analysis.report import build
from slm_energy.analysis.result import Report

__all__ = ["AnalysisOptions", "Report", "build", "one_machine", "options"]
