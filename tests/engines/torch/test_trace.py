"""Identity of a trace, and the rejection of a wrong one when it is made."""

import dataclasses

import pytest
import torch

from slm_energy.config.groups import ProviderConfig
from slm_energy.engines.torch import trace
from slm_energy.engines.torch.explicit_forward import ExplicitForward
from slm_energy.engines.torch.torchscript import ENGINE
from slm_energy.errors import EngineError


def test_a_trace_belongs_to_the_device_it_was_made_on(make_request):
    target = make_request("torchscript")
    gpus = [ProviderConfig(name="cuda", device=device) for device in (0, 1)]
    others = [
        dataclasses.replace(target, settings=dataclasses.replace(target.settings, provider=gpu))
        for gpu in gpus
    ]
    assert len({trace.entry_path(each) for each in (target, *others)}) == 3


def see_everything(explicit, keys, positions, unpadded):
    """A mask that ignores padding and order."""
    visible = unpadded[:, None, None] & (keys <= positions[:, None])
    return torch.zeros_like(visible, dtype=torch.float32)


def sizes_of_the_sample(explicit, keys, positions, unpadded):
    """A mask that only fits the traced lengths."""
    return torch.zeros(len(unpadded), 1, len(positions), len(keys))


right_mask = ExplicitForward._masks


def batch_size_of_the_sample(explicit, keys, positions, unpadded):
    """A right mask that only fits the traced number of requests."""
    return right_mask(explicit, keys, positions, unpadded).expand(len(unpadded), -1, -1, -1)


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (see_everything, "differs from torch by"),
        (sizes_of_the_sample, "cannot be traced"),
        (batch_size_of_the_sample, "cannot be traced"),
    ],
)
def test_a_wrong_trace_is_refused(make_request, twin, monkeypatch, tmp_path, mask, reason):
    target = dataclasses.replace(
        make_request("torchscript", folder=twin("tinyllama-1.1b")), cache_path=tmp_path
    )
    monkeypatch.setattr(ExplicitForward, "_masks", mask)
    with pytest.raises(EngineError, match=reason):
        ENGINE.prepare(target)
    assert not list(tmp_path.glob("torchscript/*/manifest.json"))
