"""The benchmarks are scripts, not a package: tests that use one load it from its file."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).parent.parent / "benchmarks"


def load(name: str) -> ModuleType:
    path = FOLDER / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    # A script finds those beside it, wherever it is started from.
    if str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))
    spec.loader.exec_module(module)
    return module
