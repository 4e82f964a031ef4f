"""The package as pip installs it: what its wheel carries, and what works without any extra.

The wheel is installed once into an empty environment. What it requires is linked from this one,
where pip has installed the same pins.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
RUNTIMES = (
    *("torch", "torchao", "transformers", "safetensors", "optimum", "onnx", "onnxruntime"),
    *("openvino", "nncf", "llama_cpp", "gguf", "conversion"),
)

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--wheel-dir", folder, ROOT)
    [path] = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def core(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that holds the wheel and what it requires, no extra."""
    folder = tmp_path_factory.mktemp("core")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    pip("--python", python, "install", "--no-compile", "--no-deps", wheel)
    [site] = folder.glob("lib/*/site-packages")
    [own] = metadata.distributions(name="slm-energy", path=[str(site)])
    for file in {file for each in required(own) for file in each.files or ()}:
        if ".." not in file.parts:  # a script
            (site / file).parent.mkdir(parents=True, exist_ok=True)
            (site / file).symlink_to(file.locate())
    return python


def required(own: metadata.Distribution) -> list[metadata.Distribution]:
    """What a distribution requires, and what that requires."""
    found = dict[str, metadata.Distribution]()
    pending, seen = [(own, "")], set[tuple[str, str]]()
    while pending:
        needy, extra = pending.pop()
        for need in map(Requirement, needy.requires or ()):
            if need.marker and not need.marker.evaluate({"extra": extra}):
                continue
            each = metadata.distribution(need.name)
            assert each.version in need.specifier, f"{needy.name} requires {need}"
            found[each.name] = each
            wanted = {(each.name, name) for name in ("", *need.extras)} - seen
            seen |= wanted
            pending += [(each, name) for _, name in wanted]
    return list(found.values())


@pytest.fixture
def command(core: Path, tmp_path: Path) -> Command:
    """The installed command, in an empty folder and with an empty cache."""
    variables = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    variables.pop("PYTHONPATH", None)

    def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [core.with_name("slm-energy"), *words],
            cwd=tmp_path,
            env=variables | {"COLUMNS": "200"},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def pip(*words: str | Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *words], check=True
    )


def files(folder: Path) -> set[str]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)) for path in paths if "__pycache__" not in path.parts}


def test_the_wheel_carries_the_package_with_its_data_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        carried = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {f"slm_energy/{name}" for name in files(ROOT / "slm_energy")}
    for folder in ("conf", "sweeps"):  # links in the repository, folders in the wheel
        expected |= {f"slm_energy/{folder}/{name}" for name in files(ROOT / folder)}
    expected |= {f"hydra_plugins/{name}" for name in files(ROOT / "hydra_plugins")}
    assert carried == expected
    assert carried >= {
        "slm_energy/py.typed",
        "slm_energy/conf/config.yaml",
        "slm_energy/sweeps/demo.yaml",
        "slm_energy/analysis/render/templates/report.html.j2",
        "slm_energy/bundled/model/model.safetensors",
    }


def test_every_extra_of_a_runtime_is_in_all() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    [names] = extras["all"]
    assert set(names.removeprefix("slm-energy[").removesuffix("]").split(",")) == (
        extras.keys() - {"all", "benchmarks", "docs", "test"}
    )


def test_the_core_has_no_runtime(core: Path) -> None:
    script = f"from importlib.util import find_spec; print(*filter(find_spec, {RUNTIMES}))"
    done = subprocess.run([core, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_plan_names_the_extra_that_brings_an_engine(command: Command) -> None:
    engines = "torch,torch_compile,torchscript,onnx,openvino,llama_cpp,llama_cpp_server"
    plan = command("plan", "-m", f"engine={engines}")
    assert plan.returncode == 0, plan.stderr
    assert plan.stdout.count("unsupported") == 7
    for reason in (
        "engine torch needs torch: pip install 'slm-energy[torch]'",
        "engine torch_compile needs torch: pip install 'slm-energy[torch]'",
        "engine torchscript needs torch: pip install 'slm-energy[torch]'",
        "engine onnx needs onnxruntime: pip install 'slm-energy[onnx]'",
        "engine openvino needs openvino: pip install 'slm-energy[openvino]'",
        "engine llama_cpp needs llama_cpp: pip install 'slm-energy[llama_cpp]'",
        "{gguf}, which needs llama_cpp: pip install 'slm-energy[llama_cpp]'",
    ):
        assert reason in plan.stdout


def test_doctor_examines_the_machine(command: Command) -> None:
    doctor = command("doctor", "--json")
    assert doctor.returncode in (0, 1), doctor.stderr  # 1: this machine cannot measure
    assert json.loads(doctor.stdout)


def test_a_table_of_others_measurements_is_reported(command: Command) -> None:
    table = ROOT / "tests" / "data" / "paper_series.csv"
    report = command("report", f"data={table}", "columns=paper_series")
    assert report.returncode == 0, report.stderr
    assert "total energy" in report.stdout


def test_the_metrics_are_listed(command: Command) -> None:
    metrics = command("metrics", "energy")
    assert metrics.returncode == 0, metrics.stderr
    assert "energy/total_j" in metrics.stdout


def test_a_trial_is_measured_stored_and_reported(command: Command, core: Path) -> None:
    [configurations] = core.parents[1].glob("lib/*/site-packages/slm_energy/testing/conf")
    sweep = command(
        *("--config-dir", configurations, "engine=scripted", "measurement=off"),
        *("study.gate.at_most_s=0", "measurement.serve_s=0.1", "workload.limit=3"),
    )
    assert sweep.returncode == 0, sweep.stderr
    assert "1 of 1 trials valid" in sweep.stdout
    # The reference engine is torch: the trial is valid, and its agreement unknown.
    assert "engine torch needs torch: pip install 'slm-energy[torch]'" in sweep.stdout
