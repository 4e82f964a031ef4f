"""The command line as a person types it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from slm_energy import __version__
from slm_energy.testing.nvml import FakeGpu, FakeNvml, write_library
from slm_energy.testing.powercap import PowercapTree, Zone
from slm_energy.testing.waveform import constant
from tests.conftest import Command, refusal


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["engine=foo"], "engine=foo: there is no such engine; choose one of"),
        (["-m", "engine=torch,foo"], "engine=foo: there is no such engine"),
        (["engine.decod=1"], "engine.decod: no such key; did you mean engine.decode?"),
        (["study.rounds=0"], "study.rounds=0 is out of range: at least 1"),
        (["+engine.options.x=1"], "engine torch has no such option"),
        (["model.source=/nowhere"], "model.source=/nowhere: there is no folder"),
        (
            ["tracking.uri=./mlr"],
            "tracking.uri=./mlr is neither a server nor a database: for a folder",
        ),
        (["tracking.uri=sqlite:///:memory:"], "is neither a server nor a database"),
        (["workload.source=none.jsonl"], "workload.source=none.jsonl: no such file"),
        (["model.source=org/name"], "pin it with model.revision=COMMIT"),
        (["-m", "study.seed=1,2"], "study.*, tracking.* and cache.* belong to the whole sweep"),
        (["study.reference=foo"], "study.reference='foo' is not an engine; installed: "),
        (["study.exclude=[{foo: 1}]"], "study.exclude[0] names 'foo'"),
        (["hydra/launcher=joblib"], "hydra/launcher=joblib: there is no such hydra/launcher"),
        (["--config-name", "none"], "Cannot find primary config 'none'"),
        (["report"], "there is no store in mlruns"),
        (["ui"], "there is no store in mlruns"),
        (["ui", "port=abc"], "port='abc' is not valid"),
        (["ui", "port=0"], "port=0 is out of range: at least 1, at most 65,535"),
        (["report", "study=x", "margin=9"], "margin=9"),
        (
            ["report", "study=x"],
            "no store in mlruns: run a study first, or set tracking.folder=",
        ),
        (["compare", "a"], "name two studies: slm-energy compare A B"),
        (["compare", "a", "b", "margn=1"], "margn: no such key"),
        (["compare", "a", "a@mlruns"], "a and a@mlruns are the same study"),
        (["compare", "a", "b@old"], "there is no store in mlruns"),
        (["calibrate", "levels=[0]"], "levels=[0.0]: each is above 0 and at most 1"),
        (["calibrate", "rounds=2"], "rounds=2 is out of range: at least 3"),
        (["doctor", "measurement.target_error=9"], "measurement.target_error=9.0 is out of range"),
        (["doctor", "--json", "measurement=none"], "measurement=none: there is no such"),
    ],
)
def test_bad_input_is_one_clear_line_before_anything_runs(
    slm_energy: Command, words: list[str], message: str
) -> None:
    done = slm_energy(*words, quick=False)
    line = refusal(done)
    assert line.startswith("error: ")
    assert message in line


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("reprot", "no verb 'reprot': did you mean report?"),
        ("engin=torch", "engin: no such key or group; did you mean engine?"),
        ("engine=troch", "engine=troch: there is no such engine; did you mean torch?"),
        ("hydra/launcher=slrm", "there is no such hydra/launcher; did you mean slurm?"),
        ("study.round=3", "study.round: no such key; did you mean study.rounds?"),
        ("rounds=3", "rounds: no such key or group; did you mean study.rounds?"),
        ("studdy.rounds=3", "studdy.rounds: no such key; did you mean study.rounds?"),
        ("measurement.limits.steel_pct=1", "did you mean measurement.limits.steal_pct?"),
        ("measurement.limit.steal_pct=1", "did you mean measurement.limits.steal_pct?"),
        ("engine=onnx engine.options.spining=off", "did you mean engine.options.spinning?"),
        ("-m engine=torch,onnx engine.decod=session,generate", "did you mean engine.decode?"),
        ("report study=x margn=0.1", "margn: no such key or group; did you mean margin?"),
        ("ui prt=1", "prt: no such key or group; did you mean port?"),
        ("plan --confg-name demo", "no option '--confg-name': did you mean --config-name?"),
        ("doctor --jsn", "no option '--jsn': did you mean --json?"),
        ("--verison", "no option '--verison': did you mean --version?"),
        ("cache cler", "cache cler: no such action; did you mean clear?"),
        ("env creat x", "env creat: no such action; did you mean create?"),
    ],
)
def test_a_mistyped_name_is_answered_with_the_one_that_was_probably_meant(
    slm_energy: Command, words: str, meant: str
) -> None:
    done = slm_energy(*words.split(), quick=False)
    line = refusal(done)
    assert line.endswith(meant)


def test_a_key_that_a_file_of_ones_own_leaves_out_can_be_added(
    slm_energy: Command, tmp_path: Path
) -> None:
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "mine.yaml").write_text("name: torch\n")
    words = ("plan", "--config-dir", str(tmp_path), "engine=mine")
    refused = slm_energy(*words, "engine.threads=2", quick=False)
    advice = "engine.threads: this engine leaves it out; +engine.threads=VALUE adds it"
    assert (refused.returncode, advice in refused.stderr) == (2, True), refused.stderr
    assert slm_energy(*words, "+engine.threads=2", quick=False).returncode == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("xyz", "no verb 'xyz': choose one of run, plan, fetch, "),
        ("study.rounds=2 plan", "'plan' is not KEY=VALUE; a verb comes first"),
        ("plan -m engine=torch, onnx", "'onnx' is not KEY=VALUE"),
        ("plan --cfg nothing", "choose from"),
        ("plan -m --cfg job", "not allowed with argument"),
        ("plan --resolve", "--resolve belongs to --cfg: add --cfg job"),
        ("plan --config-dir", "argument -cd/--config-dir: expected one argument"),
        ("plan --config-dir none", "none' not found"),
        ("study.bsy=1", "study.bsy: no such key; did you mean study.busy?"),
        ("foo=1", "foo: no such key or group; there are model, engine, "),
        ("engine.options.x=1", "engine.options.x: no such key; engine.options has: group_size"),
        ("workload.columns.prompt=x", "give the whole mapping: workload.columns={prompt: VALUE}"),
        ("sync a b", "give one folder"),
        ("compare a b c", "name two studies"),
    ],
)
def test_words_that_fit_nowhere_are_one_clear_line(
    slm_energy: Command, words: str, message: str
) -> None:
    assert message in refusal(slm_energy(*words.split(), quick=False))


def test_python_that_raises_warnings_is_refused_before_a_library_is_blamed(
    slm_energy: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "warnoptions", ["default", "error::DeprecationWarning"])
    line = refusal(slm_energy("plan"))
    assert line.startswith("error: PYTHONWARNINGS or -W error::DeprecationWarning turns warnings")


def test_the_version_is_ours(slm_energy: Command) -> None:
    for words in (("--version",), ("plan", "--version")):
        done = slm_energy(*words, quick=False)
        assert (done.returncode, done.stdout) == (0, f"slm-energy {__version__}\n")


def test_options_and_keys_come_in_any_order(tmp_path: Path, slm_energy: Command) -> None:
    mine = tmp_path / "mine" / "workload"
    mine.mkdir(parents=True)
    (mine / "short.yaml").write_text("name: short\nsource: bundled\nlimit: 2\n")
    for words in (
        "plan -m --config-dir mine engine=torch,onnx workload=short",
        "plan engine=torch,onnx --config-dir mine workload=short -m",
        "plan workload=short -cd=mine engine=torch,onnx --multirun",
    ):
        done = slm_energy(*words.split(), quick=False)
        assert "2 trials: 0 done, 2 to do" in done.stdout, done.stderr
    left_out = slm_energy("plan", "-cd", "mine", "workload=short", "workload.stop=eos", quick=False)
    assert "workload.stop: this workload leaves it out; +workload.stop=" in left_out.stderr
    composed = slm_energy("run", "study.rounds=7", "--cfg", "job", "engine=onnx", quick=False)
    assert composed.returncode == 0, composed.stderr
    assert "rounds: 7" in composed.stdout
    assert not (tmp_path / "mlruns").exists()


def test_the_console_script_is_installed() -> None:
    script = Path(sys.executable).with_name("slm-energy")
    assert shutil.which(str(script))
    done = subprocess.run([script, "--help"], capture_output=True, text=True, check=True)
    assert "slm-energy" in done.stdout


def test_a_ready_sweep_is_narrowed_from_the_command_line(slm_energy: Command) -> None:
    whole = slm_energy("plan", "--config-name", "demo", quick=False)
    assert "12 trials: 0 done, 12 to do" in whole.stdout, whole.stderr
    narrowed = slm_energy(
        "plan", "--config-name", "demo", "engine=torch", "study.rounds=2", quick=False
    )
    assert "2 trials: 0 done, 2 to do" in narrowed.stdout


def test_doctor_says_in_its_first_line_whether_energy_can_be_measured(
    tmp_path: Path, slm_energy: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = f"measurement.powercap_root={tmp_path / 'none'}"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    done = slm_energy("doctor", none, quick=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("No energy can be measured here: no sensor can be read; ")
    assert "33 checks: " in done.stdout
    strict = slm_energy("doctor", "measurement=strict", "--json", none, quick=False)
    assert strict.returncode == 1
    assert json.loads(strict.stdout)["exit_code"] == 1
    assert not (tmp_path / "mlruns").exists()


def test_doctor_sees_counters_and_gpus(
    tmp_path: Path, slm_energy: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, libraries = tmp_path / "powercap", tmp_path / "libraries"
    root.mkdir()
    libraries.mkdir()
    gpu = FakeGpu(uuid="GPU-1", waveform=constant(70))
    monkeypatch.setenv("LD_LIBRARY_PATH", str(write_library(FakeNvml(gpus=(gpu,)), libraries)))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    zone = Zone(folder="intel-rapl:0", name="package-0", waveform=constant(50))
    with PowercapTree(root, [zone]):
        words = ("doctor", "--json", "measurement=strict", f"measurement.powercap_root={root}")
        done = slm_energy(*words, quick=False)
    found = json.loads(done.stdout)
    assert (done.returncode, found["energy"]) == (0, "measured")
    summed = {source["id"] for source in found["sources"] if source["summed"]}
    assert summed == {"rapl/intel-rapl:0", "nvml/GPU-1/energy"}
    checks = {check["name"]: check["verdict"] for check in found["checks"]}
    assert checks["GPUs metered"] == checks["RAPL"] == "ok"
    assert checks["GPU processes"] != "not applicable"


def test_report_prints_and_stores_on_the_parent_run(tmp_path: Path, slm_energy: Command) -> None:
    assert slm_energy("-m", "engine.decode=session,generate", "study.rounds=2").returncode == 0
    done = slm_energy("report", "study=default", "margin=0.1", "out=paper", quick=False)
    assert done.returncode == 0, done.stderr
    assert "2 cells, 2 rounds, 4 of 4 trials valid" in done.stdout
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlruns' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("default")
    assert experiment is not None
    [parent] = client.search_runs([experiment.experiment_id], "tags.`slm.kind` = 'sweep'")
    assert "4 of 4 trials valid" in parent.data.tags["mlflow.note.content"]
    assert client.download_artifacts(parent.info.run_id, "plan.json", str(tmp_path))
    [report] = (tmp_path / "mlruns" / "artifacts").rglob("comparisons.json")
    assert parent.info.run_id in str(report)
    assert json.loads(report.read_text())["options"]["margin"] == 0.1
    assert f"report: {report.with_name('report.html')}" in done.stdout
    page = report.with_name("report.html").read_text()
    assert "slm/0: scripted / cpu / decode=" in page
    assert page.count("<pre") == 1  # both cells wrote the same
    assert (tmp_path / "paper" / "comparisons.json").read_text() == report.read_text()
    assert (tmp_path / "paper" / "tables" / "latency-e2e-p50-s-pairs.tex").is_file()

    # The same trials, as if one cell had run on another machine.
    here = parent.data.tags["slm.machine"]
    for run in client.search_runs([experiment.experiment_id], "tags.`slm.kind` = 'trial'"):
        if run.data.params["engine.decode"] == "session":
            client.set_tag(run.info.run_id, "slm.machine", "other")
    assert refusal(slm_energy("recommend", "study=default", quick=False)).endswith(
        f"slm-energy report machine={','.join(sorted([here, 'other']))}"
    )
    done = slm_energy("report", "study=default", f"machine={here},other", quick=False)
    assert done.returncode == 0, done.stderr
    assert "Machines against each other" in done.stdout
    assert f"default on {here} and other: 2 cells, 2 rounds" in done.stdout


def test_a_report_without_its_generations_says_so(tmp_path: Path, slm_energy: Command) -> None:
    assert slm_energy().returncode == 0
    [table] = (tmp_path / "mlruns" / "artifacts").rglob("generations.json")
    table.unlink()
    done = slm_energy("report", "study=default", quick=False)
    assert "no generated code in the report: " in done.stdout
    assert done.returncode == 0
    (tmp_path / "file").touch()
    done = slm_energy("report", "study=default", "out=file/x", quick=False)
    assert done.returncode == 2
    assert done.stderr == "error: out=file/x cannot be written: Not a directory\n"


def test_compare_tells_ci_what_got_worse(tmp_path: Path, slm_energy: Command) -> None:
    fast = ("study.rounds=2", "measurement.serve_s=0.3")
    assert slm_energy(*fast, "study.name=main").returncode == 0
    slow = (*fast, "study.name=branch", "engine.options.token_s=0.003")
    assert slm_energy(*slow).returncode == 0
    shutil.copytree(tmp_path / "mlruns", tmp_path / "elsewhere")

    words = ("compare", "main", "branch@elsewhere", "metrics=latency/e2e_p50_s,latency/ttft_p50_s")
    refused = slm_energy(*words, quick=False)
    line = refusal(refused)
    assert "main and branch@elsewhere differ in engine.options.token_s" in line
    assert line.endswith("allow=engine")
    assert "no: allow=engine" in refused.stdout

    worse = slm_energy(*words, "allow=engine,versions", "--json", quick=False)
    found = json.loads(worse.stdout)
    assert (worse.returncode, found["exit_code"], worse.stderr) == (1, 1, "")
    names = [each["metric"]["name"] for each in found["metrics"]]
    assert names == ["latency/e2e_p50_s", "latency/ttft_p50_s"]
