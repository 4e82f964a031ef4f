"""Export with attention as one operator: rotation, cache and attention of a layer in one call.

ONNX Runtime's `GroupQueryAttention` appends keys and values to the cache in place, where a traced
graph copies all of it at each token, and takes the place of some forty small operators per layer.
Its prompts are padded on the right: row by row, `seqlens_k` says where the last token is.

The model is traced with an attention function that stands for the operator. That needs a model that
calls transformers' attention interface in every layer, causal and without a bias; others keep the
graph that `export_optimum.lean` makes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slm_energy.engines.onnx import fuse
from slm_energy.engines.onnx.external_data import GRAPH, move_weights
from slm_energy.engines.onnx.simplify import simplify
from slm_energy.models.architecture import CONTEXT, first

OPERATOR = "GroupQueryAttention"
_NAME = "slm_energy_fused"
_OPSET = 17


class NotFusable(Exception):
    """The model's attention is not what the operator computes."""


@dataclasses.dataclass
class _Trace:
    """What one traced call of the model sees and leaves.

    Attributes:
        past: keys and values of each layer, before the call.
        lengths: tokens of each request after the call, minus one (b,); int32.
        total: tokens of the longest request after the call (1,); int32.
        last: each request's last token among those of the call, (b,) in a flat list of (b, n).
        tables: cosines and sines of the positions, (context, half of the rotated size).
        present: keys and values after the call, by layer.
        rotated: the layer being traced rotates its queries and keys.
    """

    past: list[tuple[Any, Any]]
    lengths: Any
    total: Any
    last: Any
    tables: tuple[Any, Any] | None
    present: dict[int, tuple[Any, Any]] = dataclasses.field(default_factory=dict)
    rotated: bool = False

    # What a model asks of its cache.
    is_compileable = False

    def update(self, key: Any, value: Any, layer: int, *_: Any, **__: Any) -> tuple[Any, Any]:
        """Return the new keys and values alone: the operator appends them."""
        return key, value

    def get_seq_length(self, layer: int = 0) -> int:
        """Return 0: positions are given, and masks are the operator's."""
        return 0

    def attend(
        self,
        module: Any,
        query: Any,
        key: Any,
        value: Any,
        attention_mask: Any,
        scaling: float | None = None,
        sliding_window: int | None = None,
        softcap: float | None = None,
        **others: Any,
    ) -> tuple[Any, None]:
        """Take the place of an attention function of transformers.

        Args:
            module: the layer.
            query: (b, heads, n, size).
            key: (b, heads of keys, n, size); new ones only.
            value: the same.
            attention_mask: None, unless the model makes its own.
            scaling: of the scores; None is 1 / sqrt(size).
            sliding_window: tokens that a token sees, itself included.
            softcap: limit of the scores.
            others: what the operator does not know.

        Raises:
            NotFusable: the operator computes something else.
        """
        if attention_mask is not None or others.get("s_aux") is not None:
            raise NotFusable("its mask or its sinks are its own")
        layer = module.layer_idx
        heads, key_heads, size = (int(n) for n in (query.shape[1], key.shape[1], query.shape[3]))
        rows, _, length, _ = query.shape
        flat = [
            each.transpose(1, 2).reshape(rows, length, count * size)
            for each, count in ((query, heads), (key, key_heads), (value, key_heads))
        ]
        tables = self.tables if self.rotated else None
        if tables and (size % 16 or tables[0].shape[1] % 8):
            raise NotFusable("the operator rotates only heads of a multiple of 16")
        self.rotated = False
        out, *self.present[layer] = _operator().apply(
            *flat, *self.past[layer], self.lengths, self.total, *(tables or (None, None)),
            heads, key_heads, size, scaling or size**-0.5, sliding_window or -1, softcap or 0.0,
        )  # fmt: skip
        return out.reshape(rows, length, heads, size), None


def fused(folder: Path, model: Any) -> None:
    """Write a graph that computes the logits of each request's last position only.

    Raises:
        NotFusable: the model's attention is not what the operator computes.
        ValueError, RuntimeError, NotImplementedError, KeyError: torch cannot export the model.
    """
    import onnx
    import torch

    layers = model.config.num_hidden_layers
    pasts = [f"past_key_values.{n}.{part}" for n in range(layers) for part in ("key", "value")]
    inputs = ["input_ids", "position_ids", "seqlens_k", "total_sequence_length", "last", *pasts]
    presents = [name.replace("past_key_values", "present") for name in pasts]
    token, cached = {0: "batch", 1: "length"}, {0: "batch", 2: "cached"}
    with _attending(model) as call, torch.no_grad():
        torch.onnx.export(
            call,
            _samples(call),
            f=str(folder / GRAPH),
            input_names=inputs,
            output_names=["logits", *presents],
            dynamic_axes={"input_ids": token, "position_ids": token}
            | {name: {0: "batch"} for name in ("seqlens_k", "last", "logits")}
            | dict.fromkeys((*pasts, *presents), cached),
            opset_version=_OPSET,
            dynamo=False,
            # Weights stay out of the graph, so nothing may be computed from them here.
            export_params=False,
            do_constant_folding=False,
            custom_opsets={"com.microsoft": 1},
        )
        proto = onnx.load(folder / GRAPH)
        if sum(node.op_type == OPERATOR for node in proto.graph.node) != layers:
            raise NotFusable("some of its layers do not call the attention interface")
        fuse.projections(proto.graph, OPERATOR)
        fuse.norms(proto)
        move_weights(proto, set(inputs), fuse.Weights(call.state_dict()), folder)
    simplify(folder / GRAPH)


@contextlib.contextmanager
def _attending(model: Any) -> Iterator[Any]:
    """A module that calls the model with the operator as its attention.

    Raises:
        NotFusable: see `fused`.
    """
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    if not model._supports_attention_backend or model.config._attn_implementation != "sdpa":
        raise NotFusable("it has an attention of its own")
    call = _call(model, _tables(model))
    module: Any = sys.modules[type(model).__module__]
    rotation = getattr(module, "apply_rotary_pos_emb", None)
    ALL_ATTENTION_FUNCTIONS[_NAME] = lambda *args, **named: call.trace.attend(*args, **named)
    hook = model.get_output_embeddings().register_forward_pre_hook(call.last)
    try:
        if call.tables:
            module.apply_rotary_pos_emb = call.rotate
        model.config._attn_implementation = _NAME
        yield call
    finally:
        if call.tables:
            module.apply_rotary_pos_emb = rotation
        model.config._attn_implementation = "sdpa"
        hook.remove()
        del ALL_ATTENTION_FUNCTIONS[_NAME]  # type: ignore[no-untyped-call]


def _call(model: Any, tables: tuple[Any, Any] | None) -> Any:
    import torch

    class Call(torch.nn.Module):
        """One call of the model, with the inputs and outputs of the graph."""

        trace: _Trace

        def __init__(self) -> None:
            super().__init__()
            self.model = model
            self.tables = tables is not None
            if tables is not None:
                self.register_buffer("cosines", tables[0])
                self.register_buffer("sines", tables[1])

        def forward(
            self, ids: Any, positions: Any, lengths: Any, total: Any, last: Any, *past: Any
        ) -> Any:
            """Return the logits (b, vocabulary), keys and values of each layer in turn."""
            self.trace = _Trace(
                past=list(zip(past[::2], past[1::2], strict=True)),
                lengths=lengths,
                total=total,
                last=last,
                tables=(self.cosines, self.sines) if self.tables else None,
            )
            logits = self.model(
                input_ids=ids, position_ids=positions, past_key_values=self.trace, use_cache=True
            ).logits
            present = self.trace.present
            return logits, *(each for layer in range(len(present)) for each in present[layer])

        def rotate(self, query: Any, key: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
            """Leave the rotation to the operator."""
            self.trace.rotated = True
            return query, key

        def last(self, layer: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
            """Keep the hidden state (b, size) of each request's last token."""
            return (arguments[0].flatten(0, 1).index_select(0, self.trace.last), *arguments[1:])

    return Call()


def _samples(call: Any) -> tuple[Any, ...]:
    """Arguments of a call with two tokens in the cache and one new one, for two requests."""
    import torch

    config = call.model.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    if getattr(config, "multi_query", False):
        heads = 1
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    past = [torch.zeros(2, heads, 2, size) for _ in range(2 * config.num_hidden_layers)]
    column = torch.tensor([[2], [2]])
    lengths = torch.tensor([2, 2], dtype=torch.int32)
    total = torch.tensor([3], dtype=torch.int32)
    return column, column, lengths, total, torch.tensor([0, 1]), *past


def _tables(model: Any) -> tuple[Any, Any] | None:
    """Cosines and sines (context, half of the rotated size); None if nothing is rotated.

    Raises:
        NotFusable: the model rotates in another way than the operator.
    """
    import torch

    rotary = {n: m for n, m in model.base_model.named_children() if n.startswith("rotary_emb")}
    if not rotary:
        return None
    apply = getattr(sys.modules[type(model).__module__], "apply_rotary_pos_emb", None)
    kind = getattr(rotary.get("rotary_emb"), "rope_type", None)
    context = first(model.config.to_dict(), CONTEXT)
    if apply is None or len(rotary) > 1 or kind in (None, "dynamic", "longrope") or not context:
        raise NotFusable("it rotates queries and keys in its own way")
    if "layer_type" in inspect.signature(rotary["rotary_emb"].forward).parameters:
        raise NotFusable("its kinds of layers rotate in different ways")
    with torch.no_grad():
        cosines, sines = rotary["rotary_emb"](torch.zeros(1), torch.arange(context)[None])
        half = cosines.shape[-1] // 2
        query = torch.randn(1, 2, context, 2 * half)
        turned = torch.cat((-query[..., half:], query[..., :half]), -1)
        ours = query * cosines + turned * sines
        if not torch.allclose(apply(query, query, cosines, sines)[0], ours, atol=1e-5):
            raise NotFusable("it rotates queries and keys in its own way")
    return cosines[0, :, :half].contiguous(), sines[0, :, :half].contiguous()


@functools.cache
def _operator() -> Any:
    """The operator as torch's exporter takes it: what it is called, and shapes while tracing."""
    import torch

    class GroupQueryAttention(torch.autograd.Function):
        """As documented: github.com/microsoft/onnxruntime, docs/ContribOperators.md."""

        @staticmethod
        def forward(
            context: Any, query: Any, key: Any, value: Any, past_key: Any, past_value: Any, *_: Any
        ) -> tuple[Any, ...]:
            """Return tensors of the right shapes."""
            new = (key.shape[1], past_key.shape[3])
            grown = [
                torch.cat((past, each.unflatten(2, (-1, new[1])).transpose(1, 2)), 2)
                for past, each in ((past_key, key), (past_value, value))
            ]
            return query.clone(), *grown

        @staticmethod
        def symbolic(graph: Any, *inputs: Any) -> Any:
            """Return the node."""
            *tensors, heads, key_heads, size, scale, window, softcap = inputs
            present = [each for each in tensors if each is not None]
            outputs = graph.op(
                f"com.microsoft::{OPERATOR}",
                *present,
                num_heads_i=heads,
                kv_num_heads_i=key_heads,
                scale_f=scale,
                local_window_size_i=window,
                softcap_f=softcap,
                do_rotary_i=int(len(present) > 7),
                outputs=3,
            )
            kind = inputs[3].type()
            outputs[0].setType(kind.with_sizes([None, None, heads * size]))
            for output in outputs[1:]:
                output.setType(kind.with_sizes([None, key_heads, None, size]))
            return outputs

    return GroupQueryAttention
