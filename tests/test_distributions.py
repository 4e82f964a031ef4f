"""What is installed is identified by content: a version is only a name."""

from __future__ import annotations

import dataclasses
import shutil
import time
from pathlib import Path

import pytest

from slm_energy import cache, distributions
from slm_energy.cell import Settings, cell_id, settings
from slm_energy.config.groups import EngineConfig, RunConfig
from slm_energy.engines import base
from slm_energy.engines.base import LoadRequest
from slm_energy.engines.describe import describe
from slm_energy.engines.llama_cpp import gguf_export

PACKAGE = "llama-cpp-python"


def install(site: Path, library: str, *, script: str = "s1", installer: str = "pip") -> None:
    """A package of always the same version, with what pip lists of its files."""
    time.sleep(0.01)  # the kernel's clock of files may tick every 4 ms only
    info = site / "llama_cpp_python-9.9.dist-info"
    if info.exists():
        shutil.rmtree(info)
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 9.9\n")
    (info / "RECORD").write_text(
        f"../../../bin/convert,sha256={script},99\n"
        f"llama_cpp/libllama.so,sha256={library},12345\n"
        "llama_cpp/__pycache__/x.cpython-311.pyc,,\n"
        f"llama_cpp_python-9.9.dist-info/INSTALLER,sha256={installer},3\n"
        "llama_cpp_python-9.9.dist-info/RECORD,,\n"
    )


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def levels(config: RunConfig) -> Settings:
    return dataclasses.replace(settings(config), engine=EngineConfig(name="llama_cpp"))


def test_a_package_that_is_replaced_under_its_version_is_another_cell_and_another_export(
    site: Path, config: RunConfig
) -> None:
    found, cells, exports = list[dict[str, str]](), set[str](), set[Path]()
    for library in ("aaaa", "bbbb", "aaaa"):
        install(site, library)
        own = describe(levels(config)).versions
        found.append(own)
        cells.add(cell_id(levels(config), "m", "w", own))
        request = LoadRequest(
            settings=levels(config),
            model_path=site,
            model_digest="m",
            cache_path=site,
            versions=own,
            eos_ids=(),
        )
        exports.add(cache.place(site, "gguf", gguf_export.identity(request)))
    assert [own[PACKAGE] for own in found] == ["9.9"] * 3
    assert found[0] == found[2] != found[1]
    assert len(cells) == len(exports) == 2


def test_another_installation_of_the_same_wheel_is_the_same(site: Path) -> None:
    install(site, "aaaa")
    one = distributions.versions([PACKAGE])
    install(site, "aaaa", script="in another folder", installer="uv")
    assert distributions.versions([PACKAGE]) == one


def test_packages_without_a_list_of_files_have_versions_alone(site: Path) -> None:
    install(site, "aaaa")  # not looked at yet
    (site / "llama_cpp_python-9.9.dist-info" / "RECORD").unlink()
    assert distributions.versions([PACKAGE, "not-there"]) == {PACKAGE: "9.9", "not-there": "absent"}
    assert base.find("scripted").versions() == {}
