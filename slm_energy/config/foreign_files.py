"""What a configuration file from somebody else may not do: it sets the keys of its own group.

    a tag of YAML (`!!python/...`)    could make objects
    `@package _global_` or `hydra`    could set every key, also those of Hydra that run code
    `${oc.env:SECRET}`                would put a variable into records and pages

This is refused while Hydra reads and resolves, with the file or key that has it.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any, NoReturn

import yaml

from slm_energy.errors import ConfigError

_OURS = tuple(Path(__file__).parents[1] / name for name in ("conf", "sweeps"))
_DEPTH = 20
"""How many lists and mappings may be inside each other: no key needs more, and parsers recurse."""
_OPENS = (
    *(yaml.BlockMappingStartToken, yaml.BlockSequenceStartToken),
    *(yaml.FlowMappingStartToken, yaml.FlowSequenceStartToken),
)
_CLOSES = (yaml.BlockEndToken, yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)
_HEADER = re.compile(r"^\s*#\s*@package\s+(\S+)", re.MULTILINE)
_NEEDED = ("hydra", "now", "oc.decode")
"""Resolvers that Hydra's own configuration and `compose` use."""


@contextmanager
def foreign_files_checked() -> Iterator[None]:
    """Within the block Hydra refuses what the module's docstring lists.

    Raises:
        ConfigError: a file has a tag, or is for the package `_global_`.
    """
    from hydra._internal.sources_registry import SourcesRegistry
    from hydra.core.plugins import Plugins
    from omegaconf.basecontainer import BaseContainer

    Plugins.instance()  # registers the sources
    reader: Any = SourcesRegistry.instance().resolve("file")
    load, resolvers = reader.load_config, dict(BaseContainer._resolvers)

    def load_checked(source: Any, config_path: str) -> Any:
        file = Path(source.path, source._normalize_file_name(config_path))
        if file.is_file() and not any(file.resolve().is_relative_to(o.resolve()) for o in _OURS):
            _check(file, config_path)
        return load(source, config_path)

    reader.load_config = load_checked
    for name in resolvers.keys() - set(_NEEDED):
        del BaseContainer._resolvers[name]
    try:
        yield
    finally:
        reader.load_config = load
        BaseContainer._resolvers.update(resolvers)


def refuse_deep(steps: Iterable[int], where: str) -> None:
    """Refuse nesting on which a parser would fail with an error of its own.

    Args:
        steps: 1 where a list or mapping begins, -1 where one ends, 0 elsewhere.
        where: the key or file.

    Raises:
        ConfigError: too many are inside each other.
    """
    if max(accumulate(steps), default=0) > _DEPTH:
        raise ConfigError(f"{where}: more than {_DEPTH} lists or mappings inside each other")


def _check(file: Path, config_path: str) -> None:
    try:
        text = file.read_text(encoding="utf-8")
        tokens = list(yaml.scan(text))
        tags = [token for token in tokens if isinstance(token, yaml.TagToken)]
        steps = (isinstance(token, _OPENS) - isinstance(token, _CLOSES) for token in tokens)
        refuse_deep(steps, str(file))
        plain = None if tags else yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not valid YAML: {' '.join(str(error).split())}") from error
    if tags:
        line = tags[0].start_mark.line + 1
        raise ConfigError(f"{file}, line {line}: a tag of YAML is not allowed; write a plain value")
    header = _HEADER.search(text)
    group = config_path.rpartition("/")[0]
    if header is not None and _reaches_beyond(header[1], group):
        _refuse(file, f"@package {header[1]}", group)
    # A file at the top is what the user chose to compose (--config-name).
    if group and isinstance(plain, dict) and "@_global_" in str(plain.get("defaults")):
        _refuse(file, "@_global_", group)


def _reaches_beyond(package: str, group: str) -> bool:
    top = package.partition(".")[0]
    return top == "_global_" or (top == "hydra" and not group.startswith("hydra"))


def _refuse(file: Path, what: str, group: str) -> NoReturn:
    raise ConfigError(
        f"{file}: {what} is not allowed, because it could set every key;"
        f" set only those of {group or 'one group'}"
    )
