"""slm_energy: what does a serving configuration cost a code Small Language Model, in joules?

Folders, in the order in which a study passes through them:

config    what can be set, and Hydra, which composes it
planning  what is to be run
running   an invocation: its trials one after another, here or as jobs
worker    the process that serves one trial
engines   what it serves with
meters    what samples energy and utilization meanwhile
store     records on disk and in MLflow
analysis  from stored trials to verdicts and a report
doctor    can this machine measure?
testing   fakes

Files beside them: `cell` and `record` are the words that all share; `metrics`, `checks`, `quality`
and `reference` make numbers and verdicts of a trial; `models`, `architecture`, `random_weights` and
`workload` are what is served; `cache` has what is derived from weights.
"""

__version__ = "0.1.0"
