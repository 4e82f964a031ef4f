"""The cache as several processes see it: makers that are killed or meet, and making room."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slm_energy import cache
from slm_energy.cache import CacheEntry
from slm_energy.errors import EngineError, SlmEnergyError
from slm_energy.places import file_errors
from slm_energy.serialization import Json
from tests.conftest import Command
from tests.users import ANN, BOB, LAB, as_user, needs_root, open_folder, owned

FORK = multiprocessing.get_context("fork")
DAY_S = 86400.0


def identity(name: str) -> dict[str, Json]:
    return {"model": name, "dtype": "float32"}


def made(
    folder: Path, name: str, *, kind: str = "onnx", size: int = 1000, age_s: float = 0
) -> Path:
    """An entry of so many bytes that was used so long ago."""
    place = cache.place(folder, kind, identity(name))

    def fill(partial: Path) -> dict[str, Json]:
        (partial / "weights").write_bytes(bytes(size))
        return {"name": name}

    cache.make(place, identity(name), fill)
    then = time.time() - age_s
    os.utime(place / cache.MANIFEST, (then, then))
    return place


def state(folder: Path) -> dict[str, str]:
    return {entry.path.name: entry.state for entry in cache.entries(folder)}


def in_a_process(work: Callable[[], object]) -> multiprocessing.context.ForkProcess:
    process = FORK.Process(target=work)
    process.start()
    return process


def test_an_entry_is_made_once_and_its_facts_are_kept(tmp_path: Path) -> None:
    place = made(tmp_path, "a")
    cache.make(place, identity("a"), lambda partial: pytest.fail("made twice"))
    assert cache.facts(place) == {"name": "a"}
    [entry] = cache.entries(tmp_path)
    assert (entry.kind, entry.path, entry.state) == ("onnx", place, "whole")
    assert entry.identity == identity("a")
    assert entry.size_bytes > 1000


def test_other_content_has_another_place(tmp_path: Path) -> None:
    assert made(tmp_path, "a") != made(tmp_path, "b")


@pytest.mark.parametrize("damage", ["change", "remove", "manifest"])
def test_a_damaged_entry_is_seen_and_made_again(tmp_path: Path, damage: str) -> None:
    place = made(tmp_path, "a")
    if damage == "change":
        (place / "weights").write_bytes(bytes(999) + b"x")
    elif damage == "remove":
        (place / "weights").unlink()
    else:
        (place / cache.MANIFEST).write_text("{")
    assert not cache.intact(place)
    # A list looks at names only: it does not read gigabytes.
    assert state(tmp_path) == {place.name: "whole" if damage == "change" else "damaged"}
    made(tmp_path, "a")
    assert cache.intact(place)


def test_what_was_never_made_has_no_facts(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="run the prepare step first"):
        cache.facts(tmp_path / "onnx" / "0")


def test_a_maker_that_fails_leaves_nothing(tmp_path: Path) -> None:
    place = cache.place(tmp_path, "onnx", identity("a"))

    def fill(partial: Path) -> dict[str, Json]:
        (partial / "weights").write_bytes(b"half")
        raise ValueError("the export failed")

    with pytest.raises(ValueError, match="export failed"):
        cache.make(place, identity("a"), fill)
    assert cache.entries(tmp_path) == []


def test_a_full_disk_is_named_whatever_error_a_library_makes_of_it(tmp_path: Path) -> None:
    maker = f"""
from pathlib import Path
from slm_energy import cache
from slm_energy.places import file_errors

def fill(partial):
    try:
        (partial / "weights").write_bytes(bytes(2**21))
    except OSError:
        raise RuntimeError("the stream is bad") from None
    return {{}}

with file_errors([("cache.folder", {str(tmp_path)!r})]):
    cache.make(Path({str(tmp_path)!r}) / "onnx" / "entry", {{}}, fill)
"""
    script = f'mount -t tmpfs -o size=1m tmpfs {tmp_path} && exec "$0" -c "$1"'
    # A mount of its own needs root, or a user namespace in which to be root.
    become_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    command = ["unshare", *become_root, "--mount", "sh", "-c", script, sys.executable, maker]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    last = done.stderr.splitlines()[-1]
    assert "No space left on device; free space, or set cache.folder=PATH" in last


def test_what_a_killed_maker_left_is_listed_and_made_anew_by_the_next(tmp_path: Path) -> None:
    place = cache.place(tmp_path, "onnx", identity("a"))

    def fill(partial: Path) -> dict[str, Json]:
        (partial / "weights").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
        return {}

    maker = in_a_process(lambda: cache.make(place, identity("a"), fill))
    maker.join(60)
    assert maker.exitcode == -signal.SIGKILL
    assert state(tmp_path) == {place.name: "unfinished"}
    assert not cache.intact(place)
    made(tmp_path, "a")
    assert state(tmp_path) == {place.name: "whole"}


def test_removing_what_was_never_made_is_no_error(tmp_path: Path) -> None:
    assert cache.remove(cache.place(tmp_path, "onnx", identity("a")))


def test_what_a_killed_maker_left_can_be_removed(tmp_path: Path) -> None:
    place = cache.place(tmp_path, "onnx", identity("a"))
    place.with_name(f"{place.name}.partial").mkdir(parents=True)
    assert cache.remove(place)
    assert cache.entries(tmp_path) == []


def test_makers_that_want_the_same_entry_make_it_once(tmp_path: Path) -> None:
    place = cache.place(tmp_path, "onnx", identity("a"))
    calls = tmp_path / "calls"

    def fill(partial: Path) -> dict[str, Json]:
        with calls.open("a") as file:
            file.write("x")
        time.sleep(0.2)
        (partial / "weights").write_bytes(bytes(1000))
        return {}

    makers = [in_a_process(lambda: cache.make(place, identity("a"), fill)) for _ in range(4)]
    for maker in makers:
        maker.join(60)
    assert [maker.exitcode for maker in makers] == [0] * 4
    assert calls.read_text() == "x"
    assert cache.intact(place)


def test_an_entry_in_the_making_is_not_removed(tmp_path: Path) -> None:
    place = cache.place(tmp_path, "onnx", identity("a"))
    begun, end = FORK.Event(), FORK.Event()

    def fill(partial: Path) -> dict[str, Json]:
        begun.set()
        end.wait(60)
        return {}

    maker = in_a_process(lambda: cache.make(place, identity("a"), fill))
    assert begun.wait(60)
    assert not cache.remove(place)
    end.set()
    maker.join(60)
    assert cache.intact(place)


def names(removed: list[CacheEntry]) -> list[Json]:
    return [entry.identity["model"] for entry in removed]


def test_room_is_made_by_removing_what_was_used_longest_ago(tmp_path: Path) -> None:
    for name, days in (("new", 1), ("oldest", 3), ("old", 2)):
        made(tmp_path, name, size=10_000, age_s=days * DAY_S)
    assert cache.trim(tmp_path, 40_000, time.time()) == []
    assert names(cache.trim(tmp_path, 25_000, time.time())) == ["oldest"]
    cache.facts(cache.place(tmp_path, "onnx", identity("old")))  # now it was used last
    assert names(cache.trim(tmp_path, 15_000, time.time())) == ["new"]


def test_what_somebody_uses_stays_whatever_the_limit_says(tmp_path: Path) -> None:
    """One entry larger than the limit, used by this sweep; another sweep's was used just now."""
    begun = time.time() - 3 * 3600
    made(tmp_path, "huge", size=100_000, age_s=2 * 3600)
    made(tmp_path, "elsewhere", age_s=1800)
    made(tmp_path, "yesterday", age_s=DAY_S)
    assert names(cache.trim(tmp_path, 5_000, begun)) == ["yesterday"]
    assert names(cache.trim(tmp_path, 5_000, time.time())) == ["huge"]
    assert names(cache.trim(tmp_path, 0, time.time())) == []


def test_leftovers_make_room_too(tmp_path: Path) -> None:
    place = made(tmp_path, "a", age_s=2 * DAY_S)
    left = place.with_name(f"{'0' * 16}.partial")
    left.mkdir()
    (left / "weights").write_bytes(bytes(50_000))
    os.utime(left, (0, 0))
    assert [entry.state for entry in cache.trim(tmp_path, 10_000, time.time())] == ["unfinished"]
    assert cache.intact(place)


def test_the_verb_lists_and_clears(tmp_path: Path, slm_energy: Command) -> None:
    words = (f"cache.folder={tmp_path / 'cache'}", "cache.limit_gb=7")
    assert "0 entries" in slm_energy("cache", *words, quick=False).stdout
    for name, kind in (("a", "onnx"), ("b", "onnx"), ("c", "gguf"), ("d", "random")):
        made(tmp_path / "cache", name, kind=kind, size=2_000_000)
    listed = slm_energy("cache", *words, quick=False)
    assert listed.returncode == 0, listed.stderr
    assert "model=a, dtype=float32" in listed.stdout
    assert "4 entries, 0.008 GB of cache.limit_gb=7" in listed.stdout
    key = cache.place(tmp_path / "cache", "gguf", identity("c")).name
    some = slm_energy("cache", "clear", "random", key, *words, quick=False)
    assert "removed 2 entries, 0.004 GB" in some.stdout
    assert {entry.kind for entry in cache.entries(tmp_path / "cache")} == {"onnx"}
    wrong = slm_energy("cache", "clear", "onyx", *words, quick=False)
    assert wrong.returncode == 2
    assert wrong.stderr == "error: cache clear onyx: no such kind or key; did you mean onnx?\n"
    assert "removed 2 entries" in slm_energy("cache", "clear", *words, quick=False).stdout
    assert cache.entries(tmp_path / "cache") == []


def test_the_verb_names_the_model_of_an_entry(tmp_path: Path, slm_energy: Command) -> None:
    place = cache.place(tmp_path, "onnx", identity("a"))
    cache.make(place, identity("a"), lambda folder: {}, "phi-2")
    listed = slm_energy("cache", f"cache.folder={tmp_path}", quick=False)
    assert "phi-2, model=a, dtype=float32" in listed.stdout


@pytest.fixture
def lab() -> Iterator[Path]:
    """A cache of two users, each of whose files the other may use."""
    for folder in open_folder():
        yield owned(folder / "cache", 0, LAB, 0o2775)


@needs_root
def test_what_one_user_made_another_uses_and_replaces(lab: Path) -> None:
    as_user(ANN, lambda: made(lab, "a"))
    place = cache.place(lab, "onnx", identity("a"))

    def bob() -> None:
        cache.make(place, identity("a"), lambda partial: pytest.fail("made twice"))
        assert cache.facts(place) == {"name": "a"}
        (place / "weights").write_bytes(b"damaged")
        made(lab, "a")
        assert cache.intact(place)

    as_user(BOB, bob)
    as_user(ANN, lambda: made(lab, "b"))
    assert state(lab) == {
        place.name: "whole",
        cache.place(lab, "onnx", identity("b")).name: "whole",
    }
    as_user(ANN, lambda: names(cache.trim(lab, 0, time.time())))


@needs_root
def test_a_cache_that_cannot_be_written_is_used_for_what_is_in_it(lab: Path) -> None:
    as_user(ANN, lambda: made(lab, "a", age_s=DAY_S))
    for path in (lab, *lab.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o022)
    place = cache.place(lab, "onnx", identity("a"))

    def bob() -> None:
        assert cache.intact(place)
        cache.make(place, identity("a"), lambda partial: pytest.fail("made twice"))
        assert cache.facts(place) == {"name": "a"}
        with (
            pytest.raises(SlmEnergyError, match=r"cannot use .*\.lock: .*cache\.folder=PATH"),
            file_errors([("cache.folder", lab)]),
        ):
            made(lab, "b")
        assert cache.trim(lab, 0, time.time()) == []

    as_user(BOB, bob)


@needs_root
def test_an_entry_that_is_closed_to_others_is_listed_and_left_alone(lab: Path) -> None:
    as_user(ANN, lambda: made(lab, "a", age_s=DAY_S))
    as_user(ANN, lambda: made(lab, "b", kind="gguf", age_s=DAY_S))
    cache.place(lab, "onnx", identity("a")).chmod(0o700)
    (lab / "gguf").chmod(0o700)

    def bob() -> None:
        entries = cache.entries(lab)
        assert {(e.kind, e.state, e.size_bytes) for e in entries} == {
            ("onnx", "closed", None),
            ("gguf", "closed", None),
        }
        assert cache.trim(lab, 0, time.time()) == []

    as_user(BOB, bob)
    assert len(list(lab.glob("*/*/weights"))) == 2
