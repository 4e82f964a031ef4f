#!/usr/bin/env python3
"""Judge what pip-audit says about constraints.txt against the table of SECURITY.md.

Exit code 0: every pin was looked up, and each finding is accepted in the table. 1: not so.
pip-audit itself exits with 0 when it could look up nothing.

Examples:
    make audit
    python tools/audit.py dist/audit.json
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
# | package version | id, id | what it concerns | why it does not apply |
_ROW = re.compile(r"^\| (?P<name>[\w.-]+) (?P<version>[\w.]+) \| (?P<ids>[A-Z][\w, -]+) \|", re.M)


def accepted(security: str) -> dict[tuple[str, str], set[str]]:
    """The ids that SECURITY.md accepts for a package (lower case) of one version."""
    return {
        (row["name"].lower(), row["version"]): set(row["ids"].split(", "))
        for row in _ROW.finditer(security)
    }


def problems(report: dict[str, Any], security: str) -> list[str]:
    """One line for each pin that was not looked up, and for each finding without a reason."""
    table = accepted(security)
    lines = []
    for package in report["dependencies"]:
        if "skip_reason" in package:
            lines.append(f"not looked up: {package['name']}: {package['skip_reason']}")
            continue
        key = (package["name"].lower(), package["version"])
        for finding in package["vulns"]:
            names = {finding["id"], *finding["aliases"]}
            if not names & table.get(key, set()):
                lines.append(
                    f"{' '.join(key)}: {', '.join(sorted(names))}, fixed in"
                    f" {', '.join(finding['fix_versions']) or 'no release'}: change its pin in"
                    " constraints.txt, or give the reason to accept it in SECURITY.md"
                )
    return lines


if __name__ == "__main__":
    found = problems(json.loads(Path(sys.argv[1]).read_text()), (ROOT / "SECURITY.md").read_text())
    print("\n".join(found) or "every pin was looked up; each finding is accepted in SECURITY.md")
    sys.exit(bool(found))
