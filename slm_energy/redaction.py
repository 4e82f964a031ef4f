"""Redaction of passwords and tokens.

No configuration holds one, so that a configuration may be printed, stored, and passed to other
processes on their command line. They are in environment variables or files that MLflow, the
database driver and the wall meter read; no process of a trial inherits those variables.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

_OPENS_STORES = ("MLFLOW_", "DATABRICKS_", "PGPASS")
"""Prefixes of variables that only the process connected to the store needs."""

WALL_TOKEN = "SLM_ENERGY_WALL_TOKEN"
"""Variable with the bearer token of the wall meter, which only the sampler needs."""

_LISTED = {
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "TMPDIR", "TZ", "LANG", "LANGUAGE"),
    *("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"),
    *("VIRTUAL_ENV", "CONDA_PREFIX", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_MODULES_CACHE", "GLIBC_TUNABLES"),
    "TOKENIZERS_PARALLELISM",
    *("PYTHONHOME", "PYTHONPATH", "PYTHONSAFEPATH", "PYTHONUSERBASE", "PYTHONNOUSERSITE"),
    *("PYTHONUTF8", "PYTHONIOENCODING", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX"),
}
"""Of Python's own only those that say where files are and how text is encoded. Others change what
is served without a trace in the record: PYTHONOPTIMIZE removes the assertions of libraries,
PYTHONWARNINGS turns their warnings into errors, PYTHONMALLOC and PYTHONHASHSEED change costs."""
_LIBRARIES = (
    *("LC_", "LD_", "MALLOC_", "MIMALLOC_"),
    *("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "BLIS_", "NUMEXPR_", "TBB_"),
    *("CUDA_", "CUDNN_", "CUBLAS_", "NVIDIA_", "NCCL_", "ROCM_", "ROCR_", "HIP_", "HSA_", "AMD_"),
    *("MIOPEN_", "ONEAPI_", "ONEDNN_", "DNNL_", "SYCL_", "ZE_"),
    *("TORCH", "PYTORCH_", "ATEN_", "TRITON_", "TRANSFORMERS_", "SAFETENSORS_"),
    *("ORT_", "OV_", "OPENVINO_", "GGML_", "LLAMA_", "VLLM_"),
)
_SECRET = re.compile(r"(^|_)(API|KEY|TOKEN|SECRET|PASSWORD|AUTH|CREDENTIALS?)(_|$)")

_IN_URL = re.compile(
    r"(?:(?<=http://)|(?<=https://))[^/\s]+(?=@)"  # user information; a single value may be a token
    r"|(?<=://)[^/\s]*:[^/\s]*(?=@)"  # in a database URL a user name is not a secret
    r"|(?<=[?&]password=)[^&\s]+"
)


def inherited(further: Iterable[str] = ()) -> dict[str, str]:
    """The environment variables for processes of a trial, which run third-party code.

    An allow list: what a shell needs to find files, and the prefixes of the libraries that compute.
    A name with a word such as `TOKEN` in it passes only if it is listed itself.

    Args:
        further: names of others that pass, as `engine.env` lists them.
    """
    listed = {*_LISTED, *further}
    return {
        name: value
        for name, value in os.environ.items()
        if name in listed or (name.startswith(_LIBRARIES) and not _SECRET.search(name))
    }


def without_store() -> dict[str, str]:
    """The environment variables for processes that run no model: the sampler, pip, a job."""
    return {name: v for name, v in os.environ.items() if not name.startswith(_OPENS_STORES)}


def masked(text: str) -> str:
    """Replace credentials in the URLs of a text by three stars."""
    return _IN_URL.sub("***", text)


def in_url(url: str) -> bool:
    """Whether a URL contains credentials."""
    # A slash in a password ends the part of the URL that `masked` searches.
    return masked(url) != url or (url.startswith(("http://", "https://")) and "@" in url)
