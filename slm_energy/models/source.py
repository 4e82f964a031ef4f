"""Locate and identify the weights that a configuration names.

`model.weights=random` builds them from the architecture. Stored weights come from a model folder:
`bundled` with this package, on the local disk, or the snapshot of a hub repository at a pinned
commit; or from a GGUF file, from which a model folder is derived (`gguf_file`). In the order in
which a study calls them:

    identity   when the grid is resolved; downloads and builds nothing
    download_bytes  then: how much must be downloaded; asks the hub, downloads nothing
    fetch      before a trial; downloads a snapshot that is not in the hub's local cache
    require_unchanged  in the trial, where it runs: compares the files with the identity
    build      in a separate process; writes random weights into this project's cache

huggingface_hub is imported only for a download: it takes a second, and a worker never needs it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from slm_energy.cache import intact
from slm_energy.config.groups import BUNDLED, ModelConfig
from slm_energy.errors import ModelError
from slm_energy.hub import (
    Repository,
    failure,
    is_hub_id,
    pinned_commit,
    repository,
    unreachable,
)
from slm_energy.models import gguf_file, random_weights
from slm_energy.models.architecture import HIDDEN, LAYERS, first
from slm_energy.models.folder import (
    BUNDLED_MODEL,
    context_length,
    context_of,
    digest,
    require_hub_content,
)
from slm_energy.models.validation import PICKLES, validate

_TEXT_FILES = ("*.json", "*.txt", "*.model", "*.jinja")
_SECOND_COPIES = ("*/*", "consolidated*")
"""Exports, and weights in another layout."""


def identity(model: ModelConfig) -> str:
    """Identity of the model's content, for a cell's identity; downloads and builds nothing.

    Returns:
        The pinned commit of a hub id, else a hash of the content.

    Raises:
        ConfigError: a hub id has no pinned commit.
        ModelError: the folder is missing or holds no model that may be loaded; or random weights
            cannot be built from `model.architecture`.
    """
    if model.weights == "random":
        return random_weights.identity(model)
    _require_full_scale(model)
    if is_hub_id(model.source):
        return pinned_commit("model", model.source, model.revision)
    if gguf_file.is_file(model.source):
        return gguf_file.identity(_gguf(model))
    return digest(_local_folder(model))


def require_unchanged(model: ModelConfig, folder: Path, known: str) -> None:
    """Compare a model with its `identity` when the grid was resolved.

    A file is read once per process unless it changes.

    Args:
        model: the configuration.
        folder: what `fetch` returned; random weights need not exist yet.
        known: its identity.

    Raises:
        ModelError: it has changed since.
    """
    if model.weights == "random":
        now = random_weights.identity(model)
    elif known == model.revision:  # the commit of a hub model
        require_hub_content(folder)
        now = known
    elif gguf_file.is_file(model.source):
        now = gguf_file.identity(gguf_file.located(str(folder / gguf_file.NAME)))
    else:
        now = digest(folder)
    if now != known:
        raise ModelError(
            f"model.source={model.source} has changed since the sweep began: run it again, the"
            " changed model is another cell"
        )


def fetch(model: ModelConfig, cache: Path) -> Path:
    """Return the model's folder; download a hub snapshot if it is not in the hub's local cache.

    Args:
        model: the configuration.
        cache: this project's cache, where `build` puts random weights, and what is derived from a
            GGUF file lies.

    Raises:
        ConfigError: a hub id has no pinned commit.
        ModelError: the files are not available, or the folder holds no model that may be loaded.
    """
    if model.weights == "random":
        return random_weights.cache_folder(model, cache)
    _require_full_scale(model)
    if is_hub_id(model.source):
        return _fetch_snapshot(model, pinned_commit("model", model.source, model.revision))
    if gguf_file.is_file(model.source):
        return gguf_file.folder(_gguf(model), cache, model.name)
    return _local_folder(model)


def present(model: ModelConfig) -> Path | None:
    """A folder with the model's tokenizer, if there is one without a download.

    Raises:
        ConfigError: a hub id has no pinned commit.
        ModelError: a local folder holds no model that may be loaded.
    """
    if model.weights == "random":
        return BUNDLED_MODEL  # whose tokenizer random models have
    if gguf_file.is_file(model.source):
        return None  # it is in the file
    if not is_hub_id(model.source):
        return _local_folder(model)
    try:
        commit = pinned_commit("model", model.source, model.revision)
        return _snapshot(model, commit, local_files_only=True)
    except (OSError, ModelError):  # LocalEntryNotFoundError is both of the hub's and an OSError
        return None


def context(model: ModelConfig) -> int | None:
    """The model's longest sequence in tokens, as far as it is known without a download.

    Raises:
        ModelError: a local folder holds no model that may be loaded.
    """
    if model.weights == "random":
        return context_of(random_weights.config_of(model))
    if is_hub_id(model.source):
        return context_of(model.architecture)  # which `validate` compares with the files
    if gguf_file.is_file(model.source):
        return context_of(gguf_file.config(_gguf(model)))
    return context_length(_local_folder(model))


def download_bytes(model: ModelConfig, ask: Callable[[str, str], Repository] = repository) -> int:
    """Bytes that `fetch` would download; 0 if it would download nothing.

    Args:
        model: the configuration.
        ask: asks the hub for a repository at a commit.

    Raises:
        ConfigError: a hub id has no pinned commit.
        HubUnreachable: the hub cannot be asked.
        ModelError: the hub does not have the model, or a local folder holds none, or all files are
            here and may not be loaded.
    """
    if model.weights == "random" or gguf_file.is_file(model.source) or present(model) is not None:
        return 0
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.utils import filter_repo_objects  # type: ignore[attr-defined]

    commit = pinned_commit("model", model.source, model.revision)
    sizes = ask(model.source, commit).sizes
    missing = [
        name
        for name in filter_repo_objects(sizes, **_patterns(model))
        if not isinstance(try_to_load_from_cache(model.source, name, revision=commit), str)
    ]
    if not missing:
        _snapshot(model, commit, local_files_only=True)  # says why it may not be loaded
    return sum(sizes[name] for name in missing)


def needs_building(model: ModelConfig, folder: Path) -> bool:
    """Whether random weights must still be built; cached ones are marked as used now.

    Args:
        model: the configuration.
        folder: what `fetch` returned.
    """
    return model.weights == "random" and not intact(folder)


def build(model: ModelConfig, cache: Path) -> None:
    """Write random weights unless they are in the cache; see `random_weights.build`."""
    random_weights.build(model, cache)


def _require_full_scale(model: ModelConfig) -> None:
    if model.scale != "full":
        raise ModelError(
            f"model.scale={model.scale}: stored weights have one size; set model.weights=random"
        )


def _gguf(model: ModelConfig) -> Path:
    file = gguf_file.located(model.source)
    stored = gguf_file.config(file)
    for names in (HIDDEN, LAYERS):
        configured, found = first(model.architecture, names), first(stored, names)
        if configured not in (None, found):
            raise ModelError(
                f"model.architecture.{names[0]}={configured}, but {file} has {found}: change"
                " model.source or model.architecture"
            )
    return file


def _local_folder(model: ModelConfig) -> Path:
    path = Path(model.source).expanduser().resolve()
    folder = BUNDLED_MODEL if model.source == BUNDLED else path
    if folder.is_file():
        raise ModelError(
            f"model.source={model.source} is a file: give the folder of the model, or a .gguf file"
        )
    if not folder.is_dir():
        raise ModelError(f"model.source={model.source}: there is no folder {folder}")
    validate(folder, model)
    return folder


def _fetch_snapshot(model: ModelConfig, commit: str) -> Path:
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        # A commit never changes, so a complete snapshot in the cache needs no network.
        return _snapshot(model, commit, local_files_only=True)
    except (LocalEntryNotFoundError, ModelError):
        pass  # absent or interrupted: the download below completes it
    try:
        return _snapshot(model, commit, local_files_only=False)
    except LocalEntryNotFoundError as error:
        raise unreachable(model.source) from error
    except OSError as error:  # also of the hub's answers
        raise ModelError(
            f"model.source={model.source} revision {commit}: {failure(error)}", permanent=False
        ) from error


def _snapshot(model: ModelConfig, commit: str, *, local_files_only: bool) -> Path:
    from huggingface_hub import snapshot_download

    folder = Path(
        snapshot_download(
            model.source,
            revision=commit,
            local_files_only=local_files_only,
            **_patterns(model),
        )
    )
    validate(folder, model)
    return folder


def _patterns(model: ModelConfig) -> dict[str, Any]:
    """Which files are downloaded, as the hub's library takes it."""
    allowed = [*_TEXT_FILES, "*.safetensors"]
    allowed += PICKLES if model.allow_pickle else ()
    allowed += ("*.py",) if model.trust_remote_code else ()
    return {"allow_patterns": allowed, "ignore_patterns": list(_SECOND_COPIES)}
