import os
import sys

import psutil
import pytest

from slm_energy.engines.openai.process import ServerProcess
from slm_energy.errors import EngineError


def python(source: str) -> list[str]:
    return [sys.executable, "-c", source]


def started(source: str, gpu: int | None = None) -> ServerProcess:
    return ServerProcess(python(source), gpu)


def never(left_s: float) -> None:
    """A server that does not answer."""


def test_it_is_polled_until_it_answers():
    server = started("import time; time.sleep(3600)")
    answers = iter([None, None, "here"])
    assert server.wait_until_ready(lambda left_s: next(answers), 60.0) == "here"
    assert server.end(wait_s=0.0) is None
    server.stop()


@pytest.mark.parametrize("code", [0, 3, 255])
def test_a_server_that_ends_at_once_is_reported_with_its_exit_code_and_last_line(code):
    server = started(f"print('loading'); print('no such device'); raise SystemExit({code})")
    with pytest.raises(EngineError, match=rf"exit code {code}; it last wrote: no such device$"):
        server.wait_until_ready(never, 60.0)


def test_a_killed_server_is_reported_with_the_signal():
    server = started("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(EngineError, match="was killed by SIGKILL; it wrote nothing"):
        server.wait_until_ready(never, 60.0)


def test_one_that_never_answers_is_ended():
    server = started("import time; print('loading weights', flush=True); time.sleep(3600)")
    with pytest.raises(EngineError, match=r"not ready after engine.options.ready_s=0\.5"):
        server.wait_until_ready(never, 0.5)
    assert not psutil.pid_exists(server.pid)


def test_asking_takes_no_longer_than_what_is_left():
    """A server may listen and then keep whoever asks waiting."""
    server = started("import time; time.sleep(3600)")
    left_s = list[float]()
    with pytest.raises(EngineError, match="not ready"):
        server.wait_until_ready(left_s.append, 0.5)
    assert 0.5 >= left_s[0] > left_s[-1]


def test_its_log_goes_to_standard_error(capsys):
    server = started("import sys; print('to out', flush=True); print('to err', file=sys.stderr)")
    assert server.end(wait_s=60.0) is not None
    assert capsys.readouterr().err == "to out\nto err\n"


def test_stopping_it_twice_is_harmless():
    server = started("import time; time.sleep(3600)")
    server.stop()
    server.stop()
    assert server.end(wait_s=0.0) is not None


@pytest.mark.parametrize(
    ("visible", "gpu", "seen"),
    [(None, None, ""), (None, 1, "1"), ("5,7", 1, "7"), ("5,7", None, "")],
)
def test_it_sees_one_gpu_or_none(monkeypatch, capsys, visible, gpu, seen):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    server = started("import os; print(repr(os.environ['CUDA_VISIBLE_DEVICES']))", gpu)
    server.end(wait_s=60.0)
    assert capsys.readouterr().err == f"{seen!r}\n"


def test_it_ends_with_its_user(tmp_path):
    """By an error or a signal, without a call of `stop`."""
    source = (
        "import sys; from slm_energy.engines.openai.process import ServerProcess\n"
        "server = ServerProcess([sys.executable, '-c', 'import time; time.sleep(3600)'], None)\n"
        "print(server.pid, flush=True)\n"
    )
    for end in ("raise SystemExit(1)", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"):
        user = psutil.Popen(python(source + end), stdout=-1, env={**os.environ})
        pid = int(user.stdout.readline())
        user.communicate()
        if psutil.pid_exists(pid):
            _, alive = psutil.wait_procs([psutil.Process(pid)], timeout=30)
            assert not alive
