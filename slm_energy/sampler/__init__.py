"""The process that reads meters while a worker serves.

client        starts it, and asks it
service       the process itself
recording     what it reads, and when
schedule      when a counter ticks next
slow_meters   meters that are read in threads of their own
open_meters   which meters this machine has
calibration   update periods, measured
channels      a channel with its number, and the row of each reading
"""
