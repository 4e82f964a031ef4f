import pytest

from slm_energy.engines.base import Batch
from tests.engines.conftest import loaded
from tests.engines.torch.conftest import PROMPT, PROMPTS, batched


@pytest.mark.parametrize("name", ["lfm2-1.2b", "granite-4.0-h-micro"])
def test_a_model_that_keeps_states_beside_keys_makes_its_own_cache(make_request, twin, name):
    ours, effective = loaded(make_request("torch", folder=twin(name)))
    theirs, _ = loaded(make_request("torch", folder=twin(name), decode="generate"))
    batch = Batch(prompts=(PROMPT,), new_tokens=12, stop="fixed")
    assert effective["kv_cache"] is True
    assert effective["cache"] != "DynamicCache"
    assert ours.generate(batch)[0].output_ids == theirs.generate(batch)[0].output_ids


def test_such_a_model_serves_padded_batches_as_one_prompt_at_a_time(make_request, twin):
    engine, _ = loaded(batched(make_request("torch", folder=twin("granite-4.0-h-micro"))))
    both = Batch(prompts=PROMPTS, new_tokens=12, stop="fixed")
    alone = [engine.generate(both.request(row))[0].output_ids for row in range(2)]
    assert [answer.output_ids for answer in engine.generate(both)] == alone
