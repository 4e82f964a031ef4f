"""The process that reads meters while a worker serves.

client        starts it, and sends it requests
service       the process itself
recording     samples of one trial: what is read when
schedule      when a source is read next
slow_meters   meters that are read in threads of their own
open_meters   which meters this machine has
calibration   update periods, measured
channels      a channel with its number, and the row of each reading
"""
