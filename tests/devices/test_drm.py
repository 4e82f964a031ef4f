from pathlib import Path

from slm_energy.devices import drm

FILE = "pos:\t0\nflags:\t02100002\n"
XE = FILE + "drm-driver:\txe\ndrm-client-id:\t7\ndrm-pdev:\t0000:03:00.0\n"


def described(folder: Path, *texts: str) -> Path:
    for number, text in enumerate(texts):
        (folder / str(number)).write_text(text)
    return folder


def test_the_gpu_that_is_open_is_named_by_its_address(tmp_path: Path) -> None:
    assert drm.identity(described(tmp_path, FILE, XE, XE)) == {"device_pci": "0000:03:00.0"}


def test_of_several_open_gpus_it_is_not_known_which_one_computes(tmp_path: Path) -> None:
    other = XE.replace("0000:03", "0000:04")
    assert drm.identity(described(tmp_path, XE, other)) == {}


def test_this_process_has_none_open() -> None:
    assert drm.identity() == {}
