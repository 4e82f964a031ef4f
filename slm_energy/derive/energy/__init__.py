"""Energy of a window, from readings of counters and of power.

accounting        one source in one window, and the sum over sources
counters          energy counters: wraps, resets, steps
power             power readings, integrated
window_edges      counter energy at a window's start and end
unobserved        what a part-time or filtered counter does not show
latency           when energy appears in a sensor's values
spread            what the spread of samples says of what was not observed
steadiness        how far a baseline may be from the long run
gain              the second interval, with the sensor's gain
usable_readings   selection of readings, and gaps
crosscheck        two views of the same energy
"""
