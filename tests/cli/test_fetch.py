"""What `fetch` downloads from a hub on a loopback port, and what it says of the rest."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from slm_energy.models.folder import BUNDLED_MODEL
from tests.conftest import Command
from tests.hub_server import COMMIT, hub


def test_fetch_downloads_what_is_pinned_resumes_and_names_the_rest(
    slm_energy: Command, tmp_path: Path
) -> None:
    """One process: importing the hub's library takes a second."""
    other = tmp_path / "other"
    shutil.copytree(BUNDLED_MODEL, other)
    blobs = tmp_path / "home" / "hub" / "models--org--pinned" / "blobs"
    blobs.mkdir(parents=True)
    weights = (BUNDLED_MODEL / "model.safetensors").read_bytes()
    begun = blobs / f"{hashlib.sha256(weights).hexdigest()}.incomplete"
    begun.write_bytes(weights[:1_000_000])
    models = {"org/pinned": BUNDLED_MODEL, "org/newest": other, "org/closed": other}
    with hub(models, gated=("org/closed",)) as server:
        env = {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "home"), "COLUMNS": "200"}
        words = (
            *("fetch", "-m", "model=org/pinned,org/newest,org/closed,org/none"),
            f"study.revisions={{pinned: {COMMIT}, closed: {COMMIT}, none: {COMMIT}}}",
        )
        done = slm_energy(*words, quick=False, env=env)
        assert done.returncode == 1, done.stderr
        planned = slm_energy("plan", *words[1:], env=env)
    said = " ".join(done.stdout.split())
    assert "pinned 0.01 GB available" in said, done
    assert server.ranges == ["bytes=1000000-"]
    assert "newest - model.source=org/newest is a hub id: pin it with" in said
    assert "accept its licence at https://huggingface.co/org/closed" in said
    assert "the hub has no such model, or it is private" in said
    assert f"""'study.revisions={{newest: "{COMMIT}"}}'""" in said
    assert "unsupported closed / scripted / cpu: model.source=org/closed" in planned.stdout
    assert "pinned / scripted / cpu" in planned.stdout
    assert "1 trials: 0 done, 1 to do" in planned.stdout


def test_a_model_that_is_not_here_is_a_cell_with_its_size(
    slm_energy: Command, tmp_path: Path
) -> None:
    with hub({"org/model": BUNDLED_MODEL}) as server:
        env = {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "home")}
        words = (f"model.revision={COMMIT}", "model=org/model")
        done = slm_energy("plan", *words, env=env)
    assert "to download: 0.01 GB (model 0.01 GB); slm-energy fetch" in done.stdout
    alone = slm_energy("plan", *words, env=env)
    assert alone.returncode == 2
    assert "is not in the local cache and the hub cannot be reached" in alone.stderr
    excluded = slm_energy("fetch", *words, "study.exclude=[{model: model}]", quick=False, env=env)
    assert excluded.returncode == 0, excluded.stdout
