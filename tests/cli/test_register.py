"""`plan --register FILE`, and the report beside it."""

import yaml

METRICS = "metrics=[latency/e2e_p50_s]"


def test_a_study_is_registered_run_and_compared_with_its_registration(slm_energy, tmp_path):
    register = ("plan", "--register", "toy.yaml", "study.name=toy", "study.rounds=2")
    done = slm_energy(*register, METRICS, "margin=0.1", "--hypothesis", "it is fast")
    assert done.returncode == 0, done.stderr
    declared = yaml.safe_load((tmp_path / "toy.yaml").read_text())
    assert f"SHA-256 {declared['digest']}" in done.stdout
    assert "slm-energy report study=toy registration=toy.yaml" in done.stdout
    assert declared["analysis"]["margin"] == 0.1
    assert declared["hypotheses"][-1] == "it is fast"
    assert not (tmp_path / "mlruns").exists()

    again = slm_energy(*register)
    assert again.returncode == 2
    assert "--register toy.yaml: it exists" in again.stderr

    assert slm_energy("study.name=toy", "study.rounds=2").returncode == 0
    words = ("report", "study=toy", "registration=toy.yaml", METRICS)
    followed = slm_energy(*words, "margin=0.1", quick=False)
    assert followed.returncode == 0, followed.stderr
    assert "The study follows its registration" in followed.stdout
    departed = slm_energy(*words, "margin=0.05", "out=page", quick=False)
    assert "departs from its registration" in departed.stdout
    assert "margin (registered: 0.1; here: 0.05)" in " ".join(departed.stdout.split())
    assert "Declared in advance" in (tmp_path / "page" / "report.html").read_text()

    late = slm_energy("plan", "--register", "late.yaml", "study.name=toy", "study.rounds=2")
    assert "not in advance: 2 trials of this study have been run" in late.stdout


def test_what_cannot_be_registered_is_one_line(slm_energy, tmp_path):
    for words, message in (
        (("plan", "--hypothesis", "x"), "--hypothesis TEXT belongs to --register FILE"),
        (("plan", "--register", "nowhere/x.yaml"), "--register nowhere/x.yaml: No such file"),
        (("plan", "--register", "x.yaml", "margin=9"), "margin=9.0 is out of range"),
        (("report", "data=x.csv", "registration=y.yaml"), "registration=y.yaml belongs to study"),
    ):
        done = slm_energy(*words, quick=words[0] == "plan")
        assert done.returncode == 2
        assert message in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "x.yaml").exists()
