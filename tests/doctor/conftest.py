"""A folder in place of `/`."""

import pytest

INTEL = "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu vme de{}\n"


@pytest.fixture
def root(tmp_path):
    """A folder in place of `/`, with the files given."""

    def write(files):
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return tmp_path

    return write
