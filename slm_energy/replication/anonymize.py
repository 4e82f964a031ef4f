"""Personal data in a study's texts, replaced by neutral words, and the proof that none is left.

Always: credentials, home folders, names of users, hosts and machines. For double-blind review also
e-mail addresses, the commit of the working folder, and words that the user lists.
"""

from __future__ import annotations

import dataclasses
import re
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from slm_energy import redaction, source_code

T = TypeVar("T")

_HOME = re.compile(r"(?:/home|/Users)/([\w.-]*\w)")
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]*\w")
_TOKEN = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{30,}|glpat-[\w-]{20,}|sk-[\w-]{20,}"
    r"|AKIA[A-Z0-9]{16}|xox[abprs]-[\w-]{10,})|(?<=Bearer )[\w.~+/-]{8,}=*"
)
"""Access tokens by the prefixes that hubs and clouds give them."""
_SHARED_ACCOUNTS = {
    *("root", "user", "users", "admin", "administrator", "ubuntu", "debian", "ec2-user", "centos"),
    *("runner", "jovyan", "vagrant", "nobody", "daemon", "worker", "test", "localhost"),
}
"""Names that tell nothing about a person or place."""
_SHORTEST = 3
_WRITERS = ("derive/**/", "analysis/**/", "metric_catalog/", "replication/", "record", "scope")
"""Whose texts are in records and reports."""
USER = "user"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Names:
    """Names to replace.

    Attributes:
        users: of accounts.
        machines: as the store names them: a host's name and a hash.
        hosts: names of hosts without their domain.
        words: what the user lists; each is replaced wherever it occurs.
        strict: for double-blind review.
    """

    users: frozenset[str] = frozenset()
    machines: tuple[str, ...] = ()
    hosts: frozenset[str] = frozenset()
    words: tuple[str, ...] = ()
    strict: bool = False


def users_in(texts: Iterable[str]) -> set[str]:
    """Names of accounts in the paths of home folders."""
    return {match[1] for text in texts for match in _HOME.finditer(text)}


def vocabulary() -> set[str]:
    """The words of records and reports: a host named `machine` cannot be told from them."""
    paths = (path for name in _WRITERS for path in source_code.PACKAGE.rglob(f"{name}*.py"))
    return {word for path in paths for word in re.findall(r"[\w-]+", path.read_text("utf-8"))}


def texts_of(value: Any) -> Iterator[str]:
    """Every text in nested data."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from texts_of(list(value.values()))
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from texts_of(getattr(value, field.name))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from texts_of(item)


class Replacements:
    """Replaces names in texts, and remembers what it has replaced.

    Attributes:
        done: kind of data to original and replacement.
        hosts: name of a host to its replacement, where it stands alone.
    """

    def __init__(self, names: Names, keep: Collection[str] = ()) -> None:
        """Prepare the patterns.

        Args:
            names: to replace.
            keep: words that have another meaning, such as names of engines. A user or host of such
                a name is replaced in paths, and where it stands alone.
        """
        self.done: dict[str, dict[str, str]] = {}
        self._strict = names.strict
        users, hosts = names.users - _SHARED_ACCOUNTS, names.hosts - _SHARED_ACCOUNTS
        as_words = {name for name in users | hosts if len(name) >= _SHORTEST} - set(keep)
        numbered = {name: f"machine-{n}" for n, name in enumerate(names.machines, start=1)}
        self.hosts = {name: f"host-{n}" for n, name in enumerate(sorted(hosts), start=1)}
        own_hosts = {name: new for name, new in self.hosts.items() if name in as_words}
        accounts = dict.fromkeys(users, USER)
        own_accounts = dict.fromkeys(users & as_words, USER)
        alone = r"(?<![\w-]){}(?![\w-])"
        self._words = [
            *_patterns("names of machines", numbered, "{}"),
            *_patterns("words", dict.fromkeys(names.words, "withheld"), "{}"),
            *_patterns("names of hosts", own_hosts, r"(?<![\w-]){}(?:\.[\w.-]*\w)?(?![\w-])"),
            *_patterns("names of users", accounts, r"(?:(?<=/home/)|(?<=/Users/)){}(?![\w-])"),
            *_patterns("names of users", own_accounts, alone),
        ]

    def __call__(self, text: str) -> str:
        """The text without personal data."""
        masked = redaction.masked(text)
        if masked != text:
            self._note("credentials", "in a URL", "***")
        text = _TOKEN.sub(lambda m: self._note("credentials", m[0], "***"), masked)
        if self._strict:
            text = _EMAIL.sub(lambda m: self._note("e-mail addresses", m[0], "withheld"), text)
        for kind, pattern, new in self._words:
            text = pattern.sub(lambda m, kind=kind, new=new: self._note(kind, m[0], new), text)  # type: ignore[misc]
        return text

    def _note(self, kind: str, original: str, new: str) -> str:
        self.done.setdefault(kind, {})[original] = new
        return new

    def everywhere(self, value: T) -> T:
        """Nested data with all of its texts replaced; numbers stay."""
        mapped: T = _mapped(value, self)
        return mapped

    def left(self, text: str) -> str | None:
        """The kind of personal data that a text still has; None if it has none."""
        before = {kind: dict(found) for kind, found in self.done.items()}
        try:
            changed = self(text) != text
            new = next((kind for kind in self.done if self.done[kind] != before.get(kind)), None)
            return (new or next(iter(self.done), "personal data")) if changed else None
        finally:
            self.done = before


def _patterns(
    kind: str, words: Mapping[str, str], form: str
) -> list[tuple[str, re.Pattern[str], str]]:
    """The longest first: a name may be the beginning of another."""
    return [
        (kind, re.compile(form.format(re.escape(word))), words[word])
        for word in sorted(words, key=len, reverse=True)
    ]


def _mapped(value: Any, change: Replacements) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, array):
        return value
    if isinstance(value, Mapping):
        return {key: _mapped(item, change) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return dataclasses.replace(
            value, **{f.name: _mapped(getattr(value, f.name), change) for f in fields}
        )
    if isinstance(value, list | tuple):
        return type(value)(_mapped(item, change) for item in value)
    return value


def texts_in(path: Path) -> Iterator[str]:
    """The texts in a file of a package; those of a table are compressed."""
    if path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        table = pyarrow.parquet.read_table(path)
        for name in table.schema.names:
            yield name
            if pyarrow.types.is_string(table.schema.field(name).type):
                yield from filter(None, set(table[name].to_pylist()))
    else:
        yield path.read_text(encoding="utf-8", errors="replace")
