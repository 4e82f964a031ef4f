"""An error in a section of a report: the command says so, and ends with exit code 1."""

import pytest

from slm_energy.analysis.render import figures, generated
from slm_energy.analysis.stats import factorial_anova


@pytest.fixture(autouse=True)
def no_section_fails():
    """Here sections fail on purpose."""


def broken(*_, **__):
    raise ZeroDivisionError("injected")


def test_a_report_with_a_section_left_out_is_written_and_ends_with_1(
    slm_energy, tmp_path, monkeypatch: pytest.MonkeyPatch
):
    run = ("study.name=toy", "engine.threads=1,2", "-m", "study.rounds=2")
    assert slm_energy(*run).returncode == 0
    words = ("report", "study=toy", "metrics=[latency/e2e_p50_s]", "out=page")
    monkeypatch.setattr(factorial_anova, "effects", broken)
    monkeypatch.setattr(figures, "strip", broken)
    monkeypatch.setattr(generated, "generated", broken)
    done = slm_energy(*words, quick=False)
    assert done.returncode == 1
    said = " ".join(done.stdout.split())
    assert "Left out after an error: End-to-end latency p50: effects of the factors" in said
    assert "Left out after an error: Answer: every trial of End-to-end latency p50" in said
    assert "Left out after an error: generated code: ZeroDivisionError: injected." in said
    assert "errors.log beside report.html has the tracebacks" in said
    assert "Traceback" not in done.stdout + done.stderr
    log = (tmp_path / "page" / "errors.log").read_text()
    assert log.count("Traceback (most recent call last)") == 5  # the figure is two files too
    assert (tmp_path / "page" / "report.md").exists()
    stored = list((tmp_path / "mlruns" / "artifacts").rglob("errors.log"))
    assert len(stored) == 1

    extended = slm_energy(*run[:-1], "study.rounds=3")
    assert extended.returncode == 1
