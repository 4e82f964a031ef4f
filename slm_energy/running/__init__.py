"""One invocation, seen from its own process.

sweep       from a plan through its trials to their records
preview     the plan as it stands
trial       one trial: prepare, gate, worker, derive
gate        what a trial waits for, so that it inherits no heat and no load
here        trials on this machine, one at a time
jobs        trials as jobs; `queues` speaks to Slurm
sofar       what the store knows already: noise floor, stopping rule
interrupts  Ctrl-C
progress    what a person sees meanwhile
ended       what is remembered of it
"""
