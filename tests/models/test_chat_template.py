"""Chats are rendered as transformers renders them, but for the date."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from slm_energy.errors import ModelError
from slm_energy.models import chat_template
from slm_energy.models.folder import digest
from tests.asking import CHATML, CHATML_TOKENS, a_model

MESSAGE = 'Complete this.\n\n```python\ndef f(x: str) -> str:\n    """It\'s <b>."""\n```\n'
CHAT = [{"role": "user", "content": MESSAGE}]

STYLES: dict[str, tuple[str, tuple[str, ...]]] = {
    "chatml, with a system prompt of its own and tools (Qwen2.5)": (
        "{%- if tools %}\n"
        "    {{- '<|im_start|>system\\n' }}\n"
        "    {%- for tool in tools %}{{- tool | tojson }}{%- endfor %}\n"
        "    {{- '<|im_end|>\\n' }}\n"
        "{%- else %}\n"
        "    {%- if messages[0]['role'] == 'system' %}\n"
        "        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}\n"
        "    {%- else %}\n"
        "        {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}\n"
        "    {%- endif %}\n"
        "{%- endif %}\n"
        "{%- for message in messages %}\n"
        '    {%- if (message.role == "user") or (message.role == "assistant") %}\n'
        "        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' }}\n"
        "        {{- '\\n' }}\n"
        "    {%- endif %}\n"
        "{%- endfor %}\n"
        "{%- if add_generation_prompt %}\n"
        "    {{- '<|im_start|>assistant\\n' }}\n"
        "{%- endif %}\n",
        CHATML_TOKENS,
    ),
    "thoughts that can be switched off (Qwen3)": (
        "{%- for message in messages %}\n"
        "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}\n"
        "{%- endfor %}\n"
        "{%- if add_generation_prompt %}\n"
        "    {{- '<|im_start|>assistant\\n' }}\n"
        "    {%- if enable_thinking is defined and enable_thinking is false %}\n"
        "        {{- '<think>\\n\\n</think>\\n\\n' }}\n"
        "    {%- endif %}\n"
        "{%- endif %}",
        CHATML_TOKENS,
    ),
    "the first token and the date (Llama 3)": (
        "{{- bos_token }}\n"
        "{%- if not date_string is defined %}\n"
        "    {%- if strftime_now is defined %}\n"
        '        {%- set date_string = strftime_now("%d %b %Y") %}\n'
        "    {%- else %}\n"
        '        {%- set date_string = "26 Jul 2024" %}\n'
        "    {%- endif %}\n"
        "{%- endif %}\n"
        '{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}\n'
        '{{- "Today Date: " + date_string + "\\n\\n" }}\n'
        '{{- "<|eot_id|>" }}\n'
        "{%- for message in messages %}\n"
        "    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'"
        " + message['content'] | trim + '<|eot_id|>' }}\n"
        "{%- endfor %}\n"
        "{%- if add_generation_prompt %}\n"
        "    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}\n"
        "{%- endif %}\n",
        ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    ),
    "other names of roles, and exceptions (Gemma)": (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
        "{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for message in messages %}"
        "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Roles must alternate') }}{% endif %}"
        "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}"
        "{% else %}{% set role = message['role'] %}{% endif %}"
        "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}",
        ("<bos>", "<start_of_turn>", "<end_of_turn>"),
    ),
    "no marker before an answer (Mistral)": (
        '{%- if messages[0]["role"] == "system" %}\n'
        '    {%- set system_message = messages[0]["content"] %}\n'
        "    {%- set loop_messages = messages[1:] %}\n"
        "{%- else %}\n"
        "    {%- set loop_messages = messages %}\n"
        "{%- endif %}\n"
        "{%- set ns = namespace() %}\n"
        "{%- set ns.index = 0 %}\n"
        "{{- bos_token }}\n"
        "{%- for message in loop_messages %}\n"
        '    {%- if message["role"] == "user" %}\n'
        "        {%- if loop.last and system_message is defined %}\n"
        '            {{- "[INST] " + system_message + "\\n\\n" }}\n'
        '            {{- message["content"] + "[/INST]" }}\n'
        "        {%- else %}\n"
        '            {{- "[INST] " + message["content"] + "[/INST]" }}\n'
        "        {%- endif %}\n"
        "    {%- else %}\n"
        '        {{- " " + message["content"] | trim + eos_token }}\n'
        "    {%- endif %}\n"
        "    {%- set ns.index = ns.index + 1 %}\n"
        "{%- endfor %}\n",
        ("<s>", "[INST]", "[/INST]"),
    ),
    "blocks on lines of their own (Phi-3)": (
        "{% for message in messages %}\n"
        "  {% if message['role'] == 'system' %}\n"
        "<|system|>\n{{ message['content'] }}<|end|>\n"
        "  {% elif message['role'] == 'user' %}\n"
        "<|user|>\n{{ message['content'] }}<|end|>\n"
        "  {% endif %}\n"
        "{% endfor %}\n"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}",
        ("<|user|>", "<|end|>", "<|assistant|>"),
    ),
    "marks for training, and a loop that is left (SmolLM3)": (
        "{%- set today = strftime_now('%d %B %Y') -%}\n"
        "{%- set mode = '/think' if enable_thinking | default(true) else '/no_think' -%}\n"
        "<|im_start|>system\nToday Date: {{ today }}\nReasoning Mode: {{ mode }}\n<|im_end|>\n"
        "{% for message in messages %}\n"
        "{% if message.role == 'tool' %}{% continue %}{% endif %}\n"
        "{% if message.role == 'assistant' %}\n"
        "{% generation %}<|im_start|>assistant\n{{ message.content }}{% endgeneration %}\n"
        "{% else %}\n"
        "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
        "{% endif %}\n"
        "{% if loop.index > 7 %}{% break %}{% endif %}\n"
        "{% endfor %}\n"
        "{% if add_generation_prompt %}<|im_start|>assistant\n"
        "{% if mode == '/no_think' %}<think>\n\n</think>\n{% endif %}{% endif %}",
        CHATML_TOKENS,
    ),
    "marks for training that are reached": (
        "{% for message in messages %}"
        "{% generation %}\n {% set seen = 1 %} {{ message.content }}  {% endgeneration %}\n"
        "{{ bos_token }}{{ seen }}{% endfor %}",
        ("<s>",),
    ),
    "sections of text (DeepSeek-Coder)": (
        "{%- set found_item = false -%}\n"
        "{%- for message in messages -%}\n"
        "    {%- if message['role'] == 'system' -%}\n"
        "        {%- set found_item = true -%}\n"
        "    {%- endif -%}\n"
        "{%- endfor -%}\n"
        "{{bos_token}}{%- if not found_item -%}\n"
        "{{'You are an AI programming assistant.\\n'}}\n"
        "{%- endif %}\n"
        "{%- for message in messages %}\n"
        "    {%- if message['role'] == 'user' %}\n"
        "{{'### Instruction:\\n' + message['content'] + '\\n'}}\n"
        "    {%- else %}\n"
        "{{'### Response:\\n' + message['content'] + '\\n<|EOT|>\\n'}}\n"
        "    {%- endif %}\n"
        "{%- endfor %}\n"
        "{{'### Response:\\n'}}\n",
        ("<|begin|>", "<|EOT|>"),
    ),
    "roles between markers, and functions (Granite)": (
        "{%- macro part(role, text) -%}\n"
        "<|start_of_role|>{{ role }}<|end_of_role|>{{ text }}<|end_of_text|>\n"
        "{%- endmacro -%}\n"
        "{%- set system = 'Knowledge Cutoff Date: April 2024.\\nToday\\'s Date: '"
        " + strftime_now('%B %d, %Y') + '.' %}\n"
        "{%- if documents %}{%- set system = system + ' Documents.' %}{%- endif %}\n"
        "{{ part('system', system) }}\n"
        "{% for message in messages %}\n"
        "{{ part(message['role'], message['content']) }}\n"
        "{% endfor %}\n"
        "{%- if add_generation_prompt %}\n"
        "{{- '<|start_of_role|>assistant<|end_of_role|>' }}\n"
        "{%- endif %}",
        ("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>"),
    ),
    "JSON that is not HTML": (
        "{{ messages | tojson(indent=2) }}{{ tools | tojson }}{{ unk_token }}{{ nothing }}",
        ("<s>",),
    ),
}


class SameDay(datetime.datetime):
    """The day of our prompts, as transformers would see it."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> SameDay:
        return cls(2024, 7, 26, tzinfo=tz)


@pytest.mark.parametrize("style", STYLES)
def test_text_and_ids_are_those_of_transformers(
    style: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    template, tokens = STYLES[style]
    folder = a_model(
        tmp_path / "model",
        tokens=tokens,
        template=template,
        adds_first=tokens[0],
        bos_token={"__type": "AddedToken", "content": tokens[0], "lstrip": False},
        eos_token=tokens[-1],
    )
    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", SameDay)
    theirs: Any = transformers.AutoTokenizer.from_pretrained(folder)  # type: ignore[no-untyped-call]
    asked = {"add_generation_prompt": True, "enable_thinking": False}
    text = chat_template.render(folder, CHAT)
    assert text == theirs.apply_chat_template(CHAT, tokenize=False, **asked)
    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text, add_special_tokens=False)
    assert ids.ids == theirs.apply_chat_template(CHAT, tokenize=True, **asked)


def test_a_prompt_is_the_same_on_every_day(tmp_path: Path) -> None:
    folder = a_model(tmp_path / "m", template="{{ strftime_now('%d %b %Y') }}")
    assert chat_template.render(folder, CHAT) == "26 Jul 2024"


@pytest.mark.parametrize(
    ("files", "used"),
    [
        ({"tokenizer_config.json": {"chat_template": "config"}}, "config"),
        (
            {
                "tokenizer_config.json": {
                    "chat_template": [
                        {"name": "tool_use", "template": "tools"},
                        {"name": "default", "template": "named"},
                    ]
                }
            },
            "named",
        ),
        ({"chat_template.json": {"chat_template": "json"}}, "json"),
        (
            {
                "chat_template.jinja": "file",
                "tokenizer_config.json": {"chat_template": "config"},
                "chat_template.json": {"chat_template": "json"},
            },
            "file",
        ),
    ],
)
def test_a_template_may_be_in_any_of_three_files(
    files: dict[str, Any], used: str, tmp_path: Path
) -> None:
    folder = a_model(tmp_path / "m")
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name).write_text(text)
    assert chat_template.render(folder, CHAT) == used


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "has no chat template: set workload.prompt=completion"),
        ([{"name": "tool_use", "template": ""}], "named default, only tool_use"),
        ("{% if %}", "cannot be rendered"),
        ("{{ raise_exception('Use another\nmodel') }}", r"\(Use another model\)"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{{ 1 + 'a' }}", "unsupported operand"),
    ],
)
def test_a_model_without_a_usable_template_is_one_line_with_the_remedy(
    template: Any, message: str, tmp_path: Path
) -> None:
    folder = a_model(tmp_path / "m", template=template)
    with pytest.raises(ModelError, match=message) as raised:
        chat_template.render(folder, CHAT)
    assert "set workload.prompt=completion" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["chat_template.jinja", "chat_template.json"])
def test_a_template_is_part_of_what_identifies_a_model(name: str, tmp_path: Path) -> None:
    folder = a_model(tmp_path / "m", template=CHATML)
    before = digest(folder)
    (folder / name).write_text('{"chat_template": "another"}')
    other = digest(folder)
    (folder / name).write_text('{"chat_template": "and another"}')
    assert len({before, other, digest(folder)}) == 3
