"""The facts that a plan depends on when a study starts, to detect later changes.

A study lasts days. An updated library, an edited file or a different seed is not an error, but
makes later trials a different experiment. The facts of the first invocation are stored with its
parent run; trials of later invocations list what has changed since.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import platform
import re
import subprocess
from collections.abc import Iterable, Sequence
from importlib import metadata

from slm_energy import source_code
from slm_energy.cell import Cell
from slm_energy.config.groups import StudyConfig
from slm_energy.scope import Scope, difference
from slm_energy.serialization import to_plain

_NOT_THE_EXPERIMENT = ("name", "rounds", "busy", "revisions", "attempts", "timeout_s")
"""Keys of the study that do not affect a trial: more rounds extend a study, and a commit is part of
its cell."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Frozen:
    """What a plan depends on.

    Attributes:
        facts: `study.KEY`, `version.PACKAGE`, `code` (of this package), `kernel`; values are text.
        cells: ids of the planned cells.
        scopes: of the sums of joules that the machine offers, one per kind of measurement; empty
            before the meters are open, and where each node of a cluster opens its own.
        git: commit of the working folder, with `+changes` if tracked files differ from it; None
            outside a repository. Reported, not compared: committing results changes no trial.
    """

    facts: dict[str, str]
    cells: tuple[str, ...]
    git: str | None
    scopes: tuple[Scope, ...] = ()

    @property
    def measured(self) -> str:
        """The scopes in words; empty if none is known."""
        return _words(self.scopes)

    @property
    def digest(self) -> str:
        """12 hex digits of the facts; excludes the cells, so that part of a grid may be run."""
        digests = sorted(scope.digest for scope in self.scopes)
        facts = self.facts | ({"scope": " ".join(digests)} if digests else {})
        text = json.dumps(facts, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def freeze(study: StudyConfig, cells: Sequence[Cell]) -> Frozen:
    """Collect the present facts that a plan depends on."""
    settings = {
        f"study.{key}": json.dumps(value)
        for key, value in to_plain(study).items()
        if key not in _NOT_THE_EXPERIMENT
    }
    facts = {"code": source_code.digest(), "kernel": platform.release()} | _versions() | settings
    return Frozen(facts=facts, cells=tuple(cell.id for cell in cells), git=_git())


def changes(first: Frozen, now: Frozen) -> tuple[str, ...]:
    """List what has changed since the study started, one text per change."""
    texts = [
        f"{key} was {first.facts.get(key, 'absent')} and is {now.facts.get(key, 'absent')}"
        for key in sorted(first.facts.keys() | now.facts.keys())
        if first.facts.get(key) != now.facts.get(key)
    ]
    if change := scope_change(first, now):
        texts.append(change)
    if added := set(now.cells) - set(first.cells):
        texts.append(f"{len(added)} of {len(now.cells)} cells are new")
    return tuple(texts)


def scope_change(first: Frozen, now: Frozen) -> str:
    """How what is summed has changed since the study started; empty if it has not.

    A part of the grid may need only some of the first scopes. Unknown scopes are not compared.
    """
    if not first.scopes:
        return ""
    before = {scope.digest: scope for scope in first.scopes}
    new = [scope for scope in now.scopes if scope.digest not in before]
    if not new:
        return ""
    text = f"the sum was over {first.measured} and is over {_words(new)}"
    one = len(before) == len(new) == 1
    return text + (f" ({difference(first.scopes[0], new[0])})" if one else "")


def _words(scopes: Iterable[Scope]) -> str:
    return " or ".join(scope.words for scope in scopes)


@functools.cache
def _versions() -> dict[str, str]:
    """Versions of Python and of this package's requirements; cells hold those of engines."""
    required = [line for line in metadata.requires("slm-energy") or () if "extra ==" not in line]
    names = [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in required]
    installed = {
        name: distribution
        for name in names
        for distribution in list(metadata.distributions(name=name))[:1]
    }
    return {"version.python": platform.python_version()} | {
        f"version.{name}": distribution.version for name, distribution in installed.items()
    }


def _git() -> str | None:
    commit = _git_output("rev-parse", "HEAD")
    if commit is None:
        return None
    return commit + ("+changes" if _git_output("status", "--porcelain", "-uno") else "")


def _git_output(*arguments: str) -> str | None:
    """Output of git in the working folder; None without git or a repository."""
    try:
        result = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return result.stdout.strip() if result.returncode == 0 else None
