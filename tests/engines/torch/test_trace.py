"""Which trace belongs to a trial, and that a wrong one is refused when it is made."""

import dataclasses

import pytest
import torch

from slm_energy.config.groups import ProviderConfig
from slm_energy.engines.torch import trace
from slm_energy.engines.torch.explicit_forward import Explicit
from slm_energy.engines.torch.torchscript import ENGINE
from slm_energy.errors import EngineError


def test_a_trace_is_for_the_device_that_it_was_made_on(make_request):
    target = make_request("torchscript")
    gpus = [ProviderConfig(name="cuda", device=device) for device in (0, 1)]
    others = [
        dataclasses.replace(target, settings=dataclasses.replace(target.settings, provider=gpu))
        for gpu in gpus
    ]
    assert len({trace.place(one) for one in (target, *others)}) == 3


def see_everything(explicit, keys, places, own):
    """A mask that forgets padding and order."""
    seen = own[:, None, None] & (keys <= places[:, None])
    return torch.zeros_like(seen, dtype=torch.float32)


def sizes_of_the_sample(explicit, keys, places, own):
    """A mask for no other lengths than those that were traced."""
    return torch.zeros(len(own), 1, len(places), len(keys))


right_mask = Explicit._masks


def batch_size_of_the_sample(explicit, keys, places, own):
    """A right mask, but for no other number of requests than was traced."""
    return right_mask(explicit, keys, places, own).expand(len(own), -1, -1, -1)


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (see_everything, "differs from torch by"),
        (sizes_of_the_sample, "cannot be traced"),
        (batch_size_of_the_sample, "cannot be traced"),
    ],
)
def test_a_trace_that_is_wrong_is_refused(make_request, twin, monkeypatch, tmp_path, mask, reason):
    target = dataclasses.replace(
        make_request("torchscript", folder=twin("tinyllama-1.1b")), cache_path=tmp_path
    )
    monkeypatch.setattr(Explicit, "_masks", mask)
    with pytest.raises(EngineError, match=reason):
        ENGINE.prepare(target)
    assert not list(tmp_path.glob("torchscript/*/manifest.json"))
