"""With `workload.stop=code` each request ends at the same token in every engine.

For torch and onnx: `onnx/test_engine.py`, for torch_compile: `torch/test_compiled.py`, for servers:
`openai/test_engine.py`.
"""

from __future__ import annotations

import pytest

from tests.engines.conftest import loaded

WAYS = [
    ("torchscript", "session"),
    ("openvino", "session"),
    ("openvino", "generate"),
    ("openvino_genai", "generate"),
    ("llama_cpp", "session"),
    ("llama_cpp", "generate"),
]


@pytest.mark.parametrize(("name", "decode"), WAYS)
def test_requests_end_at_the_same_tokens_together_and_alone(make_request, code_ends, name, decode):
    engine, _ = loaded(make_request(name, decode=decode))
    batch = code_ends.batch
    together = engine.generate(batch)
    alone = [engine.generate(batch.request(row))[0] for row in range(len(batch.prompts))]
    engine.close()
    assert [answer.output_ids for answer in together] == code_ends.expected
    assert [answer.output_ids for answer in alone] == code_ends.expected
    assert all(len(answer.token_ns) == len(answer.output_ids) for answer in (*together, *alone))
