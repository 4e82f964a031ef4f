#!/usr/bin/env python3
"""Write docs/reference/comparison.schema.json: the form of `compare --json` and comparison.json.

Made from the dataclasses by pydantic, which MLflow brings.

Examples:
    python tools/comparison_schema.py
"""

from __future__ import annotations

from pathlib import Path

from pydantic import TypeAdapter

from slm_energy.analysis.regression import StudyComparison
from slm_energy.serialization import readable

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "comparison.schema.json"


def reference() -> str:
    """The schema, as JSON Schema 2020-12."""
    schema = TypeAdapter(StudyComparison).json_schema()
    code = {
        "description": "0, 1 (what `fail_on` names happened), 2 (no verdict).",
        "type": "integer",
    }
    schema["properties"] = {"exit_code": code, **schema["properties"]}
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return readable(dialect | schema)


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
