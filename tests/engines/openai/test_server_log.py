"""Logs of vLLM 0.32 on a processor, shortened: as it wrote them when it did not start."""

import pytest

from slm_energy.engines.openai import server_log

MEMORY = """\
(EngineCore pid=8068) INFO 11-29 23:00:12 [ompmultiprocessing.py:185] OpenMP thread binding info:
(EngineCore pid=8068) INFO 11-29 23:00:12 [ompmultiprocessing.py:185] 	local_rank=0, core ids=[0]
(VllmWorker-0 pid=8270) ERROR 11-29 23:00:26 [multiproc_executor.py:953]     raise ValueError(
(VllmWorker-0 pid=8270) ERROR 11-29 23:00:26 [multiproc_executor.py:953] ValueError: Available\
 memory on node 0 (8.23/11.46 GiB) on startup is less than desired CPU memory utilization (0.92,\
 10.55 GiB). On the CPU backend, the `--gpu-memory-utilization` flag controls the fraction of it.
(EngineCore pid=8068) ERROR 11-29 23:00:29 [core.py:1510] Exception: WorkerProc initialization\
 failed due to an exception in a background process. See stack trace for root cause.
Exception: WorkerProc initialization failed due to an exception in a background process. See stack\
 trace for root cause.
    raise RuntimeError(
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""
CONTEXT = """\
  File "vllm/engine/arg_utils.py", line 1780, in create_model_config
    return ModelConfig(
           ^^^^^^^^^^^^
pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig
  Value error, User-specified max_model_len (9999) is greater than the derived max_model_len (512)
    For further information visit https://errors.pydantic.dev/2.14/v/value_error
"""
OPTION = """\
usage: api_server.py [-h] [--headless] [--config CONFIG]
api_server.py: error: unrecognized arguments: --no-such-option
"""


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (MEMORY, "its error: ValueError: Available memory on node 0 (8.23/11.46 GiB) on startup"),
        (CONTEXT, "its error: Value error, User-specified max_model_len (9999) is greater"),
        (OPTION, "it last wrote: api_server.py: error: unrecognized arguments: --no-such-option"),
        ("loading\nno such device\n\n", "it last wrote: no such device"),
        ("", "it wrote nothing"),
    ],
)
def test_it_says_the_cause_and_not_where_the_cause_is(log: str, said: str) -> None:
    assert server_log.last_words(log.splitlines()).startswith(said)


def test_threads_are_those_that_its_workers_are_bound_to() -> None:
    assert server_log.threads(MEMORY.splitlines()) == 1
    two = [f"local_rank={n}, core ids=[{n}, {n + 2}]" for n in range(2)]
    assert server_log.threads(two) == 4
    assert server_log.threads(CONTEXT.splitlines()) is None
