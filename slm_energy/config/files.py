"""Which files and folders the keys of a configuration name, for errors of the file system."""

from __future__ import annotations

import os
from collections.abc import Iterable

from slm_energy import cache
from slm_energy.config.groups import RunConfig
from slm_energy.places import Places


def places(configs: Iterable[RunConfig]) -> Places:
    """Every key of some configurations that names a file or folder, with what it names."""
    known = [("HF_HOME", os.environ.get("HF_HOME") or os.path.expanduser("~/.cache/huggingface"))]
    for config in configs:
        known += [
            ("tracking.folder", config.tracking.folder),
            ("cache.folder", str(cache.root(config.cache.folder))),
            ("model.source", os.path.expanduser(config.model.source)),
            ("workload.source", os.path.expanduser(config.workload.source)),
            ("engine.python", os.path.expanduser(config.engine.python or "")),
        ]
    return [(key, path) for key, path in dict.fromkeys(known) if path]
