"""Environments: made whole or not at all, found by name, and one of another stack in a real sweep.

Nothing is downloaded: what is installed is a wheel of one line. `make test` makes the environment
`transformers5`, which the last test runs trials in.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from slm_energy import environments
from slm_energy.errors import ConfigError
from tests.conftest import QUICK, Command, ready_store, refusal, trials

TINY = ("model=tinyllama-1.1b", "model.weights=random", "model.scale=tiny")
SUITES_DATA = Path(sys.prefix) / "share"


@pytest.fixture(autouse=True)
def _own_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture(scope="module")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache: the studies below have one reference."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter whose new environments are copies of one: venv takes seconds for its pip."""
    folder = tmp_path_factory.mktemp("quick")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "made")], check=True)
    python = folder / "python"
    python.write_text(f'#!/bin/sh\n[ "$1 $2" = "-m venv" ] && exec cp -a {folder}/made "$3"\n')
    python.chmod(0o755)
    return str(python)


@pytest.fixture
def pins(tmp_path: Path) -> Path:
    """Requirements: one package, as small as they come."""
    return a_lock(tmp_path)


def a_lock(tmp_path: Path, requires: str | None = None) -> Path:
    """Requirements: one package, which itself requires another or none."""
    wheel = tmp_path / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny.py", "")
        metadata = "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n"
        metadata += f"Requires-Dist: {requires}\n" if requires else ""
        archive.writestr("tiny-1.0.dist-info/METADATA", metadata)
        archive.writestr(
            "tiny-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr("tiny-1.0.dist-info/RECORD", "")
    path = tmp_path / "pins.txt"
    path.write_text(f"# tiny\ntiny @ {wheel.as_uri()}\n")
    return path


def quiet(step: str, line: str) -> None:
    """Tell nobody."""


def whole() -> list[str]:
    return [each.name for each in environments.existing() if each.whole]


def test_an_environment_is_made_found_listed_and_removed(pins: Path, slm_energy: Command) -> None:
    made = slm_energy("env", "create", "mine", "--python", sys.executable, str(pins), quick=False)
    assert made.returncode == 0, made.stderr
    assert "installing 1 packages" in made.stdout
    assert "mine is ready: engine.python=mine" in made.stdout
    assert environments.interpreter("mine") == str(environments.place() / "mine" / "bin" / "python")
    [tiny] = (environments.place() / "mine").glob("lib/python*/site-packages/tiny.py")

    again = slm_energy("env", "create", "mine", str(pins), quick=False)
    assert "mine is there already" in again.stdout
    pins.write_text("# nothing\n")
    other = slm_energy("env", "create", "mine", str(pins), quick=False)
    assert other.returncode == 2
    assert "has other requirements: slm-energy env remove mine" in other.stderr

    listed = slm_energy("env", "list", quick=False).stdout.replace("\n", " ")
    assert "mine" in listed
    assert "install what it lacks" in listed  # no worker starts where there is only tiny
    assert "numpy tokenizers" in listed
    unusable = slm_energy("plan", "engine.python=mine")
    assert unusable.returncode == 2
    assert "a worker does not start in it" in unusable.stderr

    assert slm_energy("env", "remove", "mine", quick=False).returncode == 0
    assert not tiny.exists()
    assert environments.existing() == []


def test_of_a_ready_file_only_what_it_names_is_installed(
    tmp_path: Path, quick: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock may leave out what a package requires and does not need; of other files pip asks."""
    lock = a_lock(tmp_path, requires="tiny-which-nobody-has @ file:///nowhere.whl")
    with pytest.raises(ConfigError, match="installing 1 packages failed"):
        environments.create("mine", lock, quick, quiet)
    monkeypatch.setattr(environments, "_READY", tmp_path)
    assert environments.create(lock.stem, None, quick, quiet)


def test_what_fails_leaves_nothing_but_its_log(tmp_path: Path, quick: str) -> None:
    wrong = tmp_path / "wrong.txt"
    wrong.write_text(f"nothing @ {(tmp_path / 'nothing-1.0-py3-none-any.whl').as_uri()}\n")
    with pytest.raises(ConfigError, match="installing 1 packages failed: ") as raised:
        environments.create("mine", wrong, quick, quiet)
    assert environments.existing() == []
    log = environments.place() / "mine.log"
    assert str(raised.value).endswith(f"full log: {log}")
    assert "nothing-1.0" in log.read_text()


def test_an_interrupt_leaves_nothing(pins: Path, quick: str) -> None:
    def interrupt(step: str, line: str) -> None:
        if step.startswith("installing") and line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        environments.create("mine", pins, quick, interrupt)
    assert environments.existing() == []


def test_what_a_killed_maker_left_does_not_count_and_is_made_anew(pins: Path, quick: str) -> None:
    half = environments.place() / "mine" / "bin"
    half.mkdir(parents=True)
    (half / "python").symlink_to(sys.executable)
    assert [each.whole for each in environments.existing()] == [False]
    with pytest.raises(ConfigError, match="no such environment; existing: none"):
        environments.interpreter("mine")
    assert environments.create("mine", pins, quick, quiet)
    assert whole() == ["mine"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("./none/bin/python", r"engine.python=./none/bin/python: no such interpreter"),
        ("./", r"engine.python=./ is a folder: give its bin/python"),
        ("mine", r"no such environment; existing: none; .* slm-energy env create NAME"),
        ("vllm", r"no such environment; .* slm-energy env create vllm"),
    ],
)
def test_an_interpreter_that_there_is_not_is_one_clear_line(asked: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        environments.interpreter(asked)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["create"], "env accepts list, create NAME [REQUIREMENTS.txt] [--python EXE], or remove"),
        (["creat", "x"], "env creat: no such action; did you mean create?"),
        (["create", "x"], "give a file of requirements, or use a bundled name: "),
        (["create", "x", "none.txt"], "none.txt: No such file"),
        (["create", "../x"], "a name consists of letters, digits"),
        (["create", "vllm", "--python", "none"], "none cannot be run: No such file"),
        (["remove", "x"], "no such environment; existing: none"),
        (["remove", ".."], "no such environment"),
    ],
)
def test_wrong_words_are_one_clear_line(
    slm_energy: Command, words: list[str], message: str
) -> None:
    assert message in refusal(slm_energy("env", *words, quick=False))


def test_every_ready_file_pins_all_that_it_names() -> None:
    names = {"transformers4", "transformers5", "llama_cpp", "onnxruntime_genai", "sglang"}
    names |= {"vllm", "vllm_cpu"}
    assert names == set(environments.ready())
    for path in environments.ready().values():
        lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
        assert lines
        assert all(line.count("==") == 1 for line in lines), path


def test_a_cell_whose_environment_was_not_made_is_unsupported_and_the_sweep_goes_on(
    slm_energy: Command,
) -> None:
    done = slm_energy("-m", "engine.python=null,vllm")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "engine.python=vllm does not exist: slm-energy env create vllm" in done.stdout
    assert done.stdout.startswith("valid ")


@pytest.fixture
def with_store(tmp_path: Path, empty_store: Path) -> None:
    """The folder in which the command line runs has a store."""
    ready_store(tmp_path / "mlruns", empty_store)


@pytest.mark.usefixtures("with_store")
def test_genai_writes_the_tokens_of_torch_from_its_own_environment(
    cache_folder: Path, slm_energy: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(SUITES_DATA))
    words = [*TINY, "engine=onnxruntime_genai", "engine.threads=1", *QUICK[2:], "measurement=off"]
    words += [f"cache.folder={cache_folder}", "workload.batch_size=2"]
    words += ["engine.options.graph=exported,builder", "study.reference=torch"]
    done = slm_energy("-m", *words, quick=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 trials valid" in done.stdout
    assert "same_tokens_as_reference" not in done.stdout  # nobody was flagged


@pytest.mark.usefixtures("with_store")
def test_one_engine_in_two_versions_writes_the_same_tokens(
    tmp_path: Path, cache_folder: Path, slm_energy: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(SUITES_DATA))
    assert environments.interpreter("transformers5"), "make .venv/.installed-envs"
    words = [*TINY, "engine=onnx", "engine.python=null,transformers5", "engine.threads=1"]
    words += [*QUICK[2:], "measurement=off", f"cache.folder={cache_folder}"]
    done = slm_energy("-m", *words, "study.reference=torch", quick=False)
    assert done.returncode == 0, done.stdout + done.stderr
    frame = trials(tmp_path)
    assert set(frame["version.transformers"]) == {"4.57.6", "5.23.0"}
    assert frame["label"].nunique() == 2
    assert "2 of 2 trials valid" in done.stdout
    assert "same_tokens_as_reference" not in done.stdout  # nobody was flagged
