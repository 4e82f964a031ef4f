"""Hub ids, the commits that pin them, and what the hub says of a model's repository.

A hub id names a repository (`org/name`) whose content changes over time; only a commit fixes the
content. Models and workloads from a hub therefore require a commit.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from slm_energy.config.groups import BUNDLED
from slm_energy.errors import ConfigError, HubUnreachable, ModelError, one_line
from slm_energy.places import file_error

_ANSWERS_WITHIN_S = 10.0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Repository:
    """What the hub has.

    Attributes:
        commit: 40 hex digits.
        sizes: file to bytes.
    """

    commit: str
    sizes: dict[str, int]


def is_hub_id(source: str) -> bool:
    """Whether a source is a hub id: `org/name`, and no such path exists."""
    return (
        source != BUNDLED
        and re.fullmatch(r"[\w.-]+/[\w.-]+", source) is not None
        and not source.startswith(".")
        and not source.endswith((".jsonl", ".gz", ".gguf", ".safetensors"))
        and not Path(source).exists()
    )


def pinned_commit(group: str, source: str, revision: str | None) -> str:
    """The commit that `GROUP.revision` pins.

    Args:
        group: `model` or `workload`.
        source: `GROUP.source`, a hub id.
        revision: `GROUP.revision`.

    Raises:
        ConfigError: the revision is not a commit; branches and tags move.
    """
    if revision is None or not re.fullmatch(r"[0-9a-f]{40}", revision):
        kind = "datasets/" if group == "workload" else ""
        of_several = ", or by name in study.revisions" if group == "model" else ""
        raise ConfigError(
            f"{group}.source={source} is a hub id: pin it with {group}.revision=COMMIT (40 hex"
            f" digits, see https://huggingface.co/{kind}{source}/commits/main){of_several}, or give"
            f" a path that exists; revision is {revision!r}"
        )
    return revision


def failure(error: OSError) -> str:
    """Why a download failed, in one line: the hub's answer, or the file that cannot be used."""
    if error.filename is None:
        return one_line(error)
    from huggingface_hub import constants

    return str(file_error(error, [("HF_HUB_CACHE", constants.HF_HUB_CACHE)]))


def repository(source: str, revision: str | None) -> Repository:
    """Ask the hub for a model's repository; nothing is downloaded.

    Args:
        source: a hub id.
        revision: a commit; None is the newest.

    Raises:
        HubUnreachable: it does not answer, or HF_HUB_OFFLINE is set.
        ModelError: it has no such repository or commit, or a licence must be accepted first.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    try:
        info = HfApi().model_info(
            source, revision=revision, files_metadata=True, timeout=_ANSWERS_WITHIN_S
        )
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"model.source={source}: the hub has no such model, or it is private: check the name,"
            " or run hf auth login"
        ) from error
    except HfHubHTTPError as error:
        raise ModelError(f"model.source={source} revision {revision}: {one_line(error)}") from error
    except OSError as error:
        raise unreachable(source) from error
    if info.gated and get_token() is None:
        raise ModelError(
            f"model.source={source}: accept its licence at https://huggingface.co/{source}, then"
            " run hf auth login or set HF_TOKEN"
        )
    return Repository(
        commit=str(info.sha),
        sizes={each.rfilename: each.size or 0 for each in info.siblings or ()},
    )


def unreachable(source: str) -> HubUnreachable:
    """A model that is neither in the local cache nor to be had from the hub."""
    return HubUnreachable(
        f"model.source={source} is not in the local cache and the hub cannot be reached: run"
        " slm-energy fetch where there is a network, or set model.source to a local folder"
    )
