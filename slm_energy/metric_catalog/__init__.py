"""The one list of all metrics: names, units, titles, meanings. Standard library only.

    definition   what one entry says, and how its unit and its bounds follow from its name
    entries      the metrics of windows, requests and energy sources
    gauges       readings of the sampler that are not energy, and the metrics they become
    catalog      the whole list, and `find`, which gives the entry of a stored name

`derive` may store no name that is not listed here; `store`, `analysis`, `slm-energy metrics` and
docs/reference/metrics.md read titles, units and directions from it. To add a metric, add its entry,
then compute it in `derive/metrics.py`.
"""
