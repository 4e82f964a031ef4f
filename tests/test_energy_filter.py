"""Intel's energy filter, from the kernel's files."""

import pytest

from slm_energy.energy_filter import energy_filter

CPU = "processor\t: 0\nvendor_id\t: {vendor}\nflags\t\t: fpu {flags}\n\nprocessor\t: 1\n"


@pytest.fixture
def root(tmp_path):
    """A folder in place of `/`: a processor, and perhaps its register."""

    def write(vendor="GenuineIntel", flags="", register=None):
        (tmp_path / "proc").mkdir()
        (tmp_path / "proc/cpuinfo").write_text(CPU.format(vendor=vendor, flags=flags))
        if register is not None:
            (tmp_path / "dev/cpu/0").mkdir(parents=True)
            content = bytes(0xBC) + register.to_bytes(8, "little")
            (tmp_path / "dev/cpu/0/msr").write_bytes(content)
        return tmp_path

    return write


@pytest.mark.parametrize(("register", "state"), [(0, "off"), (1, "on"), (2, "off"), (3, "on")])
def test_the_register_says_it(root, register, state):
    assert energy_filter(root(register=register)) == state


def test_sgx_turns_it_on_whatever_the_register_says(root):
    assert energy_filter(root(flags="sgx sgx_lc", register=0)) == "on"


def test_sgx_in_use_is_seen_by_its_device(root, tmp_path):
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/sgx_enclave").touch()
    assert energy_filter(root()) == "on"


def test_a_register_that_cannot_be_read_leaves_it_unknown(root):
    assert energy_filter(root()) == "unknown"


def test_no_processor_leaves_it_unknown(tmp_path):
    assert energy_filter(tmp_path) == "unknown"


def test_other_processors_have_none(root):
    assert energy_filter(root(vendor="AuthenticAMD", register=1)) == "none"
