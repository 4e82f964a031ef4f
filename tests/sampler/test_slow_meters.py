"""Meters of other packages in the sampling process, the slow ones in threads of their own."""

import ctypes
import os
import threading
import time

import pytest

from slm_energy.errors import MeterError
from slm_energy.record import Source
from slm_energy.sampler.channels import NumberedChannel
from slm_energy.sampler.client import read_samples
from slm_energy.sampler.slow_meters import SlowMeter
from tests.sampler.conftest import figures, gone, holds, sampler, window


@pytest.fixture
def third_party(tmp_path, monkeypatch):
    """Install a distribution with a power meter of 90 W."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def install(source_id, slow=False, read="pass"):
        info = tmp_path / "fans-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fans\nVersion: 1\n")
        (info / "entry_points.txt").write_text("[slm_energy.meters]\nfans = fans:open_fans\n")
        (tmp_path / "fans.py").write_text(
            "import time\n"
            "from slm_energy.meters.base import Channel, Opened\n"
            "from slm_energy.record import Source\n"
            "def read():\n"
            f"    {read}\n"
            "    return 90_000\n"
            f"SOURCE = Source(id='{source_id}', kind='power', domain='fans', unit='mW',\n"
            "                update_period_ns=20_000_000)\n"
            "class Fans:\n"
            f"    slow = {slow}\n"
            "    channels = (Channel(source=SOURCE, read=read),)\n"
            "    def watch(self, pid): pass\n"
            "    def close(self): pass\n"
            "def open_fans(measurement): return Opened(meter=Fans())\n"
        )

    return install


@pytest.mark.parametrize("slow", [False, True])
def test_third_parties_can_add_meters(tree, tmp_path, third_party, slow):
    third_party("fans", slow)
    file = tmp_path / "samples.jsonl"
    with sampler(tree.root, tmp_path) as sampling:
        sampling.begin(os.getpid(), file)
        time.sleep(0.2)
        serve = window(0.2)
        sampling.end()
    assert figures(file, serve)[0]["fans"].joules == pytest.approx(90 * serve.duration_s)


def test_two_meters_cannot_claim_one_source(tree, tmp_path, third_party):
    third_party("rapl/intel-rapl:0")
    with pytest.raises(MeterError, match="two meters claim the source rapl/intel-rapl:0"):
        sampler(tree.root, tmp_path).start()


def test_a_slow_meter_that_hangs_delays_no_other_and_not_the_end(tree, tmp_path, third_party):
    third_party("fans", slow=True, read="time.sleep(60)")
    file = tmp_path / "samples.jsonl"
    with sampler(tree.root, tmp_path) as sampling:
        sampling.begin(os.getpid(), file)
        serve = window(0.3)
        sampling.end()
    found, report = figures(file, serve)
    assert report.finished
    assert holds(found["rapl/intel-rapl:0"], tree, 50 * serve.duration_s, 50)
    assert "the meter has not answered for" in found["fans"].reasons[0]


def test_a_broken_slow_meter_ends_the_process_and_is_in_its_log(tree, tmp_path, third_party):
    third_party("fans", slow=True, read="time.sleep(0.3); int('broken')")
    file = tmp_path / "samples.jsonl"
    with sampler(tree.root, tmp_path) as sampling:
        sampling.begin(os.getpid(), file)
        pid = sampling.pid
        assert gone(pid)
        sampling.end()
    assert not read_samples(file)[1].finished
    assert "ValueError" in (tmp_path / "sampler.log").read_text()


def test_a_workload_that_holds_pythons_lock_stops_nothing(tree, tmp_path, third_party):
    third_party("fans")
    file = tmp_path / "samples.jsonl"
    with sampler(tree.root, tmp_path) as sampling:
        sampling.begin(os.getpid(), file)
        start = time.monotonic_ns()
        # A call into C that keeps the lock: no thread of this process can run meanwhile.
        ctypes.PyDLL(None).usleep(900_000)
        end = time.monotonic_ns()
        sampling.end()
    fans = next(s for s in read_samples(file)[0] if s.source.id == "fans")
    assert len([t for t in fans.before_ns if start < t < end]) >= 5


def test_a_coarse_counter_is_read_until_it_has_shown_one_more_step():
    """A step takes 0.2 s here; after the recording ends it comes with the fifth reading."""
    source = Source(
        id="wall/energy",
        kind="counter",
        domain="wall",
        unit="mJ",
        update_period_ns=10_000_000,
        quantum=3_600_000,
        idle_w=18_000.0,
        summed=True,
    )
    values, ending = iter([1, 1, 1, 1, 2, 2, 2]), threading.Event()

    def read():
        return 3_600_000 * (next(values) if ending.is_set() else 1)

    class Plug:
        slow, channels = True, ()

        def watch(self, pid):
            pass

        def close(self):
            pass

    slow = SlowMeter(Plug(), [NumberedChannel(number=0, meter=Plug(), source=source, read=read)])
    assert slow.step_s == pytest.approx(0.3)
    session = slow.begin(1)
    while session.rows.empty():
        time.sleep(0.001)
    session.stopping.set()
    ending.set()
    rows = slow.last_rows(session, time.monotonic_ns() + 20 * 10**9)
    assert [row[2] // 3_600_000 for row in rows][-2:] == [1, 2]
