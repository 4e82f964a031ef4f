#!/usr/bin/env python3
"""Write docs/reference/metrics.md from the list of metrics in slm_energy/metric_catalog/.

Examples:
    python tools/metric_reference.py
    python tools/metric_reference.py --check
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from slm_energy.metric_catalog.catalog import GROUPS, METRICS, PLACEHOLDERS

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reference" / "metrics.md"
INTRODUCTION = """\
# Metrics

Every metric that a trial may store, made from the code by `python tools/metric_reference.py`. In a
terminal: `slm-energy metrics`, or `slm-energy metrics WORD`.

A name is `group/quantity_unit`. It is the metric's name in MLflow, its column in `trials.parquet`,
and what `slm-energy report metrics=[NAME,...]` takes. A metric that is unknown for a trial is
absent, never 0. Each energy metric has its interval beside it: `energy/total_j` is between
`energy/total_low_j` and `energy/total_high_j`.

Names with braces are families:

| placeholder | values |
| --- | --- |
"""


def reference() -> str:
    """The page: a table for each group; bounds are left out."""
    parts = [INTRODUCTION.rstrip("\n")]
    parts += [f"| `{{{key}}}` | {holder.values} |" for key, holder in PLACEHOLDERS.items()]
    for group, about in GROUPS.items():
        parts += ["", f"## {group}", "", f"{about[0].upper()}{about[1:]}.", ""]
        parts += ["| name | unit | better | title | meaning | origin |"]
        parts += ["| --- | --- | --- | --- | --- | --- |"]
        for metric in METRICS:
            if metric.group == group and not metric.bound:
                better = "" if metric.better == "neither" else metric.better
                cells = (f"`{metric.name}`", metric.unit.stored, better, metric.title)
                parts.append(f"| {' | '.join((*cells, metric.meaning, metric.origin))} |")
    return "\n".join([*parts, ""])


def main() -> int:
    """Write the page, or only compare it."""
    parser = argparse.ArgumentParser(description="Write docs/reference/metrics.md.")
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if it is outdated")
    check, content = parser.parse_args().check, reference()
    outdated = not PAGE.exists() or PAGE.read_text(encoding="utf-8") != content
    if outdated:
        print(f"{'outdated' if check else 'written'}: {PAGE.relative_to(ROOT)}")
    if outdated and not check:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(content, encoding="utf-8")
    return 1 if check and outdated else 0


if __name__ == "__main__":
    sys.exit(main())
