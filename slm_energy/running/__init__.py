"""One invocation, seen from its own process.

sweep       from a plan through its trials to their records
resume      the plan of a grid, given the trials that are already stored
trial       one trial: prepare, gate, worker, derive
gate        waits before a trial until the machine is at rest, so that no heat or load carries over
local       trials on this machine, one at a time
cluster     trials as jobs; `job` runs on their nodes, `slurm` speaks to the queue
stop_rule   what the store knows so far: noise floor, whether enough rounds have run
interrupts  Ctrl-C and SIGTERM
progress    what is printed meanwhile
summary     what is kept of each trial and of the invocation
"""
