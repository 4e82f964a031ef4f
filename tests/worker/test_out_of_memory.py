import pytest
import torch

from slm_energy.errors import EngineError
from slm_energy.worker.out_of_memory import out_of_memory

HUGE = 2**46


def test_torchs_allocator_is_recognised_with_the_peak_so_far():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(HUGE, dtype=torch.float64)
    message = out_of_memory(caught.value)
    assert message is not None
    assert message.startswith("out of memory: the process had used up to ")
    assert " 0.0 GB" not in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("std::bad_alloc"),
        OSError(12, "Cannot allocate memory"),
    ],
)
def test_every_way_to_run_out_of_memory_is_recognised(error):
    assert (out_of_memory(error) or "").startswith("out of memory")


def test_an_error_that_came_from_a_lack_of_memory_is_one():
    error = ValueError("cannot load")
    error.__cause__ = MemoryError()
    assert out_of_memory(error) is not None


def test_other_errors_are_none():
    assert out_of_memory(ValueError("the model's context is 512")) is None


def test_an_error_that_hides_where_it_came_from_is_taken_at_its_word():
    error = EngineError("the model cannot be exported")
    error.__context__ = MemoryError()
    assert out_of_memory(error) is not None
    error.__suppress_context__ = True  # as after `raise ... from None`
    assert out_of_memory(error) is None


def test_a_servers_lack_of_memory_is_not_ours():
    assert out_of_memory(EngineError("the server answered: CUDA out of memory")) is None
