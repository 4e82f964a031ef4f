"""Every command of README and docs is carried out, once, in the cheapest form that reads each word.

What trials would take is planned, with the same words. What analyses a study has one of scripted
trials. A sensor, a network or a server that a test cannot have is missing, and the command says so.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slm_energy import MeasurementConfig
from slm_energy.cli.main import VERBS
from slm_energy.engines.llama_cpp.gguf_export import convert
from slm_energy.sampler.open_meters import open_instruments
from slm_energy.testing import CONF
from tests.conftest import QUICK, in_process, ready_store, refusal
from tests.docs.conftest import ROOT, Block, blocks, commands
from tests.fake_slurm import FakeSlurm

SCRIPTED = ("--config-dir", str(CONF), "engine=scripted", *QUICK)
GRID = "engine.decode=session,generate"
ROWS = "m,torch,cpu,0.2\nm,onnx,cpu,0.1\n" * 4
TABLE = f"model,engine,provider,energy/per_output_token_j\n{ROWS}"
OTHERS = "LLM,Runtime,Energy (Wh)\n" + "m,torch,1.5\nm,onnx,0.75\n" * 4
TASK = '{"task_id": "a/1", "prompt": "def f():", "text": "def f():"}\n'
NOBODY = "http://127.0.0.1:9"
ADDRESSES = ("https://mlflow.example.org", "http://127.0.0.1:5000", "http://192.168.0.7")

SAID: dict[str, tuple[tuple[int, ...], str]] = {
    "fetch": ((1,), "the hub cannot be reached"),
    "doctor": ((0, 1), "checks: "),
    "plan": ((0,), r"\d+ trials: \d+ done, "),
    "plan -m engine=torch,onnx provider=cuda": ((0,), "no cell of this grid can run here"),
    "verify package --digest": ((1,), "not the published package"),
    "reproduce package": ((0, 1), "reproduced|same direction|not settled|not here"),
    "recommend study=demo at_least": ((1,), "No configuration meets"),
    "compare main branch": ((0, 1, 2), "branch"),
    "report study=demo registration": ((0, 1), "registration"),
}
"""Exit codes and a part of the output, by how a command begins; the longest beginning counts."""

ABSENT = ("127.0.0.1:9", "nvml/GPU-1234", "records", "org/name", "Q4_K_M.gguf", "model-nf4")
"""A server, a sensor, a folder and a model that are not here: the refusal names them."""

HELP = ("ui ", "env create ")
"""Commands that would serve or install: whether they are understood is enough."""


OURS = [line.removeprefix("slm-energy ") for line in commands() if line.startswith("slm-energy ")]


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, empty_store: Path, bubblewrap: None
) -> Iterator[Path]:
    """Where a reader is: examples of the repository, the files of the pages, four studies."""
    place = tmp_path_factory.mktemp("reader")
    for name in ("tests", "conf"):
        (place / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "sweeps", place / "sweeps")
    shutil.copytree(ROOT / "slm_energy" / "bundled" / "model", place / "my-model")
    convert(place / "my-model", place / "my-model.gguf", "float16")
    for block in blocks():
        if block.title == "pyproject.toml":
            install(tomllib.loads(block.code)["project"], place)
        elif block.title:
            write(place / block.title, block.code)
    for like, mine in (
        ("model/bundled.yaml", "my-configs/model/mine.yaml"),
        ("columns/tidy.yaml", "mappings/columns/mine.yaml"),
    ):
        write(place / mine, (ROOT / "conf" / like).read_text(encoding="utf-8"))
    for name, text in (("my-tasks.jsonl", TASK), ("measured.csv", TABLE), ("others.csv", OTHERS)):
        write(place / name, text)
    (place / "my-server").touch(mode=0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(place)
        patch.chdir(place)
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("XDG_CACHE_HOME", str(place / "cache"))  # a page clears it
        patch.setenv("PATH", str(place), prepend=os.pathsep)
        ready_store(place / "mlruns", empty_store)
        for name, varied in (("demo", GRID), ("first", GRID), ("main", ""), ("branch", "")):
            words = [*SCRIPTED, "study.rounds=2", f"study.name={name}", "-m", varied]
            done = in_process([word for word in words if word])
            assert done.returncode == 0, done.stderr
        for line in ("score study=demo", next(line for line in OURS if line.startswith("export"))):
            done = in_process(shlex.split(line))
            assert done.returncode == 0, done.stderr
        yield place


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def install(project: dict[str, Any], place: Path) -> None:
    """What pip would make of a page's pyproject.toml, as far as entry points go."""
    info = place / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    write(info / "METADATA", metadata)
    groups = project["entry-points"].items()
    lines = [f"[{group}]\n" + "\n".join(f"{k} = {v}" for k, v in p.items()) for group, p in groups]
    write(info / "entry_points.txt", "\n".join(lines) + "\n")


@pytest.mark.parametrize("command", OURS)
def test_a_command_of_the_program_does_what_the_page_says(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str
) -> None:
    monkeypatch.chdir(folder)
    for address in ADDRESSES:
        command = command.replace(address, NOBODY)
    words = shlex.split(command)
    verb = words[0] if words[0] in VERBS or words[0] == "--help" else "run"
    if verb == "run":
        words.insert(0, "plan")
    if "hydra/launcher=slurm" in words:
        FakeSlurm(tmp_path / "slurm", monkeypatch)
    if command.startswith("export"):
        words = [word.replace("out=package", "out=mine") for word in words]
    if command.startswith(HELP):
        words = [verb, "--help"]
    done = in_process(words)
    text = " ".join((done.stdout + done.stderr).split())
    if missing := [name for name in ABSENT if name in command and verb != "doctor"]:
        assert any(name in refusal(done) for name in missing), done.stderr
        return
    begun = [start for start in SAID if shlex.join(words).startswith(start)]
    codes, part = SAID[max(begun, key=len)] if begun and "--help" not in words else ((0,), "")
    assert done.returncode in codes, text
    assert re.search(part, text), text


def test_environments_that_pages_create_have_requirements() -> None:
    names = [line.split()[3] for line in commands() if line.startswith("slm-energy env create")]
    assert names
    assert all((ROOT / "conf" / "env" / f"{name}.txt").is_file() for name in names)


OTHER_PROGRAMS = {"make", "source", "sudo", "echo", "docker"}
OTHERS_COMMANDS = [line for line in commands() if not line.startswith("slm-energy ")]


@pytest.mark.parametrize("command", OTHERS_COMMANDS)
def test_a_command_of_another_program_can_be_typed(command: str) -> None:
    words = shlex.split(command)
    assert words[0] in OTHER_PROGRAMS
    subprocess.run(["bash", "-n", "-c", command], check=True)
    if words[0] == "make":
        subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, check=True, capture_output=True)
    if words[:2] == ["docker", "run"]:
        assert words[words.index("slm-energy") + 1] in VERBS


def test_extras_that_pages_install_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    named = {
        extra
        for page in pages
        for extras in re.findall(r"slm-energy\[([\w,]+)\]", page.read_text(encoding="utf-8"))
        for extra in extras.split(",")
    }
    assert {"torch", "onnx", "slurm"} <= named <= project["optional-dependencies"].keys()


PYTHON = [block for block in blocks() if block.language == "python" and not block.title]


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.page)
def test_python_of_a_page_runs(folder: Path, monkeypatch: pytest.MonkeyPatch, block: Block) -> None:
    monkeypatch.chdir(folder)
    words = shlex.join(["-m", *SCRIPTED, GRID, "study.rounds=1", "study.sandbox=bubblewrap"])
    code = block.code.replace('run("-m engine=torch,onnx study.rounds=6")', f"run({words!r})")
    exec(compile(code, block.page, "exec"), {})


def test_the_tutorial_extends_its_study(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    done = in_process([*SCRIPTED, "-m", GRID, "study.name=first", "study.rounds=3"])
    assert "2 cells, 3 rounds, 6 of 6 trials valid" in " ".join(done.stdout.split())


def test_the_engine_of_the_page_serves_a_trial(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    known = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{known}")
    words = ("--config-dir", "my-configs", "engine=mine", "engine.env=[PYTHONPATH]", *QUICK)
    done = in_process([*words, "study.name=engine"])
    assert "1 of 1 trials valid" in " ".join(done.stdout.split()), done.stdout


def test_the_meter_of_the_page_reads_its_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import my_meter  # type: ignore[import-not-found]  # of the page, in `folder`

    measurement = MeasurementConfig(name="test", powercap_root=str(tmp_path))
    with contextlib.closing(open_instruments(measurement)) as instruments:
        assert any("/run/my-meter/power_mw" in note for note in instruments.notes)
    file = tmp_path / "power_mw"
    file.write_text("4200\n")
    monkeypatch.setattr(my_meter, "FILE", file)
    with contextlib.closing(open_instruments(measurement)) as instruments:
        [channel] = [c for c in instruments.channels if c.source.id == "mine/board"]
        assert (channel.read(), channel.source.summed) == (4200, False)
