"""Reads a study's trials and says which cell costs less: `build(frame, options(mapping))`."""

from slm_energy.analysis.build import build
from slm_energy.analysis.options import options
from slm_energy.analysis.result.report import Report
from slm_energy.analysis.trials.frame import chosen_machines
from slm_energy.config.options import AnalysisOptions

__all__ = ["AnalysisOptions", "Report", "build", "chosen_machines", "options"]
