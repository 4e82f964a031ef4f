"""A model's chat template: read it from the model's folder and render messages.

Templates are code that comes with a model. As in transformers they run in Jinja's immutable
sandbox, and messages are rendered as `apply_chat_template` renders it, with one exception: the
date is always the same.
"""

from __future__ import annotations

import datetime
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from slm_energy.errors import ModelError, one_line
from slm_energy.models.folder import read_json

if TYPE_CHECKING:
    import jinja2

FILES = ("chat_template.jinja", "tokenizer_config.json", "chat_template.json")
"""Files that may hold the template; the first that does is used, as in transformers."""

_DATE = datetime.datetime(2024, 7, 26, tzinfo=datetime.UTC)
"""The date in every prompt: with the real one, prompts and token ids would change from day to day.
It is the date that Llama 3's templates have where there is no clock."""

_REMEDY = "set workload.prompt=completion, or take a model that was tuned for chat"


def render(folder: Path, messages: Sequence[dict[str, str]]) -> str:
    """Messages (`role`, `content`) in the model's template, up to where its answer begins.

    Models that can think before they answer are told not to (`enable_thinking`, which the templates
    of Qwen3 and SmolLM3 know). The result holds its own special tokens.

    Raises:
        ModelError: there is no template, or it cannot be rendered.
    """
    text, tokens = _template(folder), _special_tokens(folder)
    try:
        return _compiled(text).render(
            messages=list(messages),
            tools=None,
            documents=None,
            add_generation_prompt=True,
            enable_thinking=False,
            **tokens,
        )
    except Exception as error:  # a template may raise anything
        raise ModelError(
            f"{folder}: its chat template cannot be rendered ({one_line(error)}): {_REMEDY}"
        ) from error


def _template(folder: Path) -> str:
    for name in FILES:
        path = folder / name
        if not path.is_file():
            continue
        text = path.read_text(encoding="utf-8") if path.suffix == ".jinja" else _named(path)
        if text:
            return text
    raise ModelError(f"{folder} has no chat template: {_REMEDY}")


def _named(path: Path) -> str:
    """The template of a JSON file: text, or a list of named ones, of which `default` is taken."""
    entry = read_json(path).get("chat_template") or ""
    if isinstance(entry, str):
        return entry
    templates = {each["name"]: each["template"] for each in entry}
    if "default" not in templates:
        names = ", ".join(templates)
        raise ModelError(f"{path}: no chat template is named default, only {names}: {_REMEDY}")
    return str(templates["default"])


def _special_tokens(folder: Path) -> dict[str, str]:
    """`bos_token`, `eos_token` and the like, as far as the model has them."""
    tokens: dict[str, str] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        path = folder / name
        entries = read_json(path) if path.is_file() else {}
        for key, value in entries.items():
            content = value.get("content") if isinstance(value, dict) else value
            if key.endswith("_token") and isinstance(content, str):
                tokens[key] = content
    return tokens


@functools.cache
def _compiled(text: str) -> jinja2.Template:
    """The template with what transformers gives to templates."""
    # Not in every environment that serves a model: prompts are rendered outside of them.
    import jinja2.ext
    import jinja2.nodes
    import jinja2.parser
    import jinja2.sandbox

    class Generation(jinja2.ext.Extension):
        """`{% generation %}` marks an assistant's tokens for training: its content, unchanged."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return jinja2.nodes.Scope(body, lineno=line)

    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _DATE.strftime
    return environment.from_string(text)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as it is; Jinja's own filter escapes what HTML reserves."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> NoReturn:
    raise ValueError(message)
