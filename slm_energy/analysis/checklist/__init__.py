"""The reporting checklist: what reviewers ask of an energy study, answered from the study itself.

item           an item and its answer; the sources
facts          what the answers are taken from: a report, a record per cell, the plans
setup          machine and sensors
procedure      how trials ran
work           models, engines, requests and answers
evidence       statistics and what others need to check them
items          all items in order: `checklist(facts)`
"""

from slm_energy.analysis.checklist.facts import Facts
from slm_energy.analysis.checklist.item import SOURCES, Item, Source
from slm_energy.analysis.checklist.items import ENTRIES, checklist

__all__ = ["ENTRIES", "SOURCES", "Facts", "Item", "Source", "checklist"]
