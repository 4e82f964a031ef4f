#!/usr/bin/env python3
"""Train the small language model that ships inside ``slm_energy``.

The model exists so that the tool can run a complete measurement with no network: it is a
Llama-shaped toy of a few million weights. It learns first from the Python sources of the
interpreter's own standard library, and then, with ``--continue-from``, also from the generated
functions of ``synthetic_functions.py``. The steps of either run, in the order in which they run:

1. collect the corpus (deterministic file order, split into training and held-out files);
2. train a byte-level BPE tokenizer on the training files;
3. cut the corpus into training documents: whole files, and single functions moved to column 0;
4. train, with a warmup / constant / decay learning rate counted in optimizer steps;
5. save weights, configuration and tokenizer in the ``transformers`` layout;
6. measure the held-out loss and write ``training.json``.

A second mode, ``--evaluate``, loads the saved model through ``transformers`` and reports how many
of its greedy completions are Python that the standard ``tokenize`` module accepts.

Examples:
    python tools/train_bundled_model.py --max-minutes 45
    python tools/train_bundled_model.py --steps 2123 --decay-start 1592 --output FIRST
    python tools/train_bundled_model.py --continue-from FIRST --generated 30000 --steps 1600
        --decay-start 1200 --tokens-per-step 2048 --learning-rate 2e-3  (on one line)
    python tools/train_bundled_model.py --evaluate
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import io
import json
import math
import platform
import random
import sys
import sysconfig
import textwrap
import time
import tokenize
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
import torch
import torch.nn.functional as F
import transformers
from synthetic_functions import Function, functions
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

REPOSITORY = Path(__file__).resolve().parents[1]
DEFAULT_OUTPUT = REPOSITORY / "slm_energy" / "bundled" / "model"
DEFAULT_PROMPTS = REPOSITORY / "slm_energy" / "bundled" / "tasks.jsonl"

END_OF_TEXT = "<|endoftext|>"
VOCABULARY_SIZE = 4096
CONTEXT_LENGTH = 512

# Folders that hold other people's packages, generated tables or deliberately odd sources.
EXCLUDED_FOLDERS = frozenset(
    {
        "site-packages",
        "dist-packages",
        "__pycache__",
        "encodings",
        "pydoc_data",
        "test",
        "tests",
        "idle_test",
    }
)

# One pre-token per newline and one per line's indentation. A prompt that stops right after a
# newline is then cut exactly where the training text was cut, so the model sees a familiar state.
PRE_TOKEN_PATTERN = (
    r"\n"
    r"|(?<=\n)[ \t]+"
    r"| ?[\p{L}_]+"
    r"|\p{N}"
    r"| ?[^\s\p{L}\p{N}_]+"
    r"|[^\S\n]+"
)

IGNORED = -100
"""Stands for a token that is not to be learned."""

VALIDATION_FUNCTIONS = 100
HELD_OUT_SHARE = 0.02
DECAY_SHARE = 0.25
WARMUP_STEPS = 60


# --------------------------------------------------------------------------------------
# Stage 1: the corpus
# --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SourceFile:
    """One standard-library source file.

    Attributes:
        name: Path relative to the corpus root, with forward slashes.
        text: Decoded source with universal newlines applied.
    """

    name: str
    text: str


def collect_corpus(root: Path) -> list[SourceFile]:
    """Read the standard library's own Python sources in a deterministic order.

    A file is taken when its top-level module belongs to ``sys.stdlib_module_names``, when it is
    not a build-time configuration dump, and when the running interpreter can parse it.

    Args:
        root: Folder that holds the standard library.

    Returns:
        The accepted files, sorted by relative path.
    """
    files = []
    for path in sorted(root.rglob("*.py"), key=lambda p: p.relative_to(root).as_posix()):
        relative = path.relative_to(root)
        top_level = relative.parts[0].removesuffix(".py")
        if top_level not in sys.stdlib_module_names or top_level.startswith("_sysconfigdata"):
            continue
        if EXCLUDED_FOLDERS.intersection(relative.parts[:-1]):
            continue
        try:
            with tokenize.open(path) as handle:
                text = handle.read()
            ast.parse(text)
        except (SyntaxError, UnicodeDecodeError, ValueError):
            continue
        if text.strip():
            files.append(SourceFile(relative.as_posix(), text))
    return files


def corpus_digest(files: list[SourceFile]) -> str:
    """Hash names and contents of all corpus files.

    Args:
        files: Corpus files in order.

    Returns:
        Hexadecimal SHA-256.
    """
    digest = hashlib.sha256()
    for file in files:
        for part in (file.name, file.text):
            data = part.encode()
            digest.update(len(data).to_bytes(8, "big"))
            digest.update(data)
    return digest.hexdigest()


def is_held_out(file: SourceFile) -> bool:
    """Decide from a file's contents alone whether it is kept out of training.

    Args:
        file: Corpus file.

    Returns:
        True for about ``HELD_OUT_SHARE`` of all files.
    """
    first_bytes = hashlib.sha256(file.text.encode()).digest()[:8]
    return int.from_bytes(first_bytes, "big") < HELD_OUT_SHARE * 2**64


# --------------------------------------------------------------------------------------
# Stage 2: the tokenizer
# --------------------------------------------------------------------------------------


def train_tokenizer(texts: list[str]) -> Tokenizer:
    """Train a byte-level BPE tokenizer whose id 0 is the end-of-text mark.

    Args:
        texts: Training texts.

    Returns:
        The tokenizer. It adds no special token by itself.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRE_TOKEN_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


# --------------------------------------------------------------------------------------
# Stage 3: training documents
# --------------------------------------------------------------------------------------


def functions_of(file: SourceFile) -> Iterator[tuple[str, int]]:
    """Cut a file's functions out and move each to column 0.

    Args:
        file: Corpus file.

    Yields:
        Source text ending in a newline, and how often one pass over the data repeats it:
        1 without a docstring, 2 with one, 4 when the docstring shows a doctest example.
    """
    lines = file.text.splitlines(keepends=True)
    for node in ast.walk(ast.parse(file.text)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
        source = textwrap.dedent("".join(lines[first - 1 : node.end_lineno])).rstrip() + "\n"
        try:
            ast.parse(source)
        except SyntaxError:
            continue
        docstring = ast.get_docstring(node, clean=False)
        repeats = 1 if docstring is None else 4 if ">>>" in docstring else 2
        yield source, repeats


class TrainingData:
    """Tokenized training documents and the sampling of batches from them.

    Half of a batch's rows are windows of whole files that begin at a line start; the other half
    are rows packed with shuffled functions, each closed by the end-of-text mark. The function rows
    resemble the bundled prompts: a signature, a docstring, then a body.

    In the second stage, three quarters of the rows are packed with generated functions instead. Of
    these only the bodies are learned: the values in an example are random.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        files: list[SourceFile],
        generated: Iterable[Function],
        seed: int,
    ) -> None:
        """Tokenize all documents.

        Args:
            tokenizer: Trained tokenizer.
            files: Training files.
            generated: Generated functions; none in the first stage.
            seed: Seed of the sampling order.
        """
        self._random = random.Random(seed)
        self._end = tokenizer.token_to_id(END_OF_TEXT)
        newline = tokenizer.token_to_id("Ċ")  # the byte-level spelling of "\n"
        file_ids = [e.ids for e in tokenizer.encode_batch([f.text for f in files])]
        self.file_tokens = sum(len(ids) for ids in file_ids)
        self._file_ids = file_ids
        self._window_starts: list[tuple[int, int]] = []

        sources, repeats = [], []
        for file in files:
            for source, count in functions_of(file):
                sources.append(source)
                repeats.append(count)
        encoded = tokenizer.encode_batch(sources)
        self._functions = [[*e.ids, self._end] for e in encoded]
        self._repeats = repeats
        self.function_count = len(sources)
        self._newline = newline
        self._queue: list[int] = []
        self._generated = [generated_document(tokenizer, function) for function in generated]
        self._generated_queue: list[int] = []

    def _file_row(self, length: int) -> list[int]:
        """Take the next window of a whole file, refilling the shuffled window list when empty.

        Args:
            length: Number of tokens in the row.

        Returns:
            Token ids.
        """
        row: list[int] = []
        while len(row) < length:
            if not self._window_starts:
                for index, ids in enumerate(self._file_ids):
                    offset = -self._random.randrange(length)
                    for start in range(offset, len(ids), length):
                        self._window_starts.append((index, max(start, 0)))
                self._random.shuffle(self._window_starts)
            index, start = self._window_starts.pop()
            ids = self._file_ids[index]
            while 0 < start < len(ids) and ids[start - 1] != self._newline:
                start += 1
            row += ids[start : start + length]
            if start + length >= len(ids):
                row.append(self._end)
        return row[:length]

    def _function_row(self, length: int) -> list[int]:
        """Pack shuffled functions into one row.

        Args:
            length: Number of tokens in the row.

        Returns:
            Token ids.
        """
        row: list[int] = []
        while len(row) < length:
            if not self._queue:
                self._queue = [i for i, n in enumerate(self._repeats) for _ in range(n)]
                self._random.shuffle(self._queue)
            row += self._functions[self._queue.pop()]
        return row[:length]

    def _generated_row(self, length: int) -> list[tuple[int, int]]:
        """Pack shuffled generated functions into one row.

        Args:
            length: Number of tokens in the row.

        Returns:
            Token ids, each with what is to be predicted in its place.
        """
        row: list[tuple[int, int]] = []
        while len(row) < length:
            if not self._generated_queue:
                self._generated_queue = list(range(len(self._generated)))
                self._random.shuffle(self._generated_queue)
            row += self._generated[self._generated_queue.pop()]
        return row[:length]

    def batch(self, rows: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw one batch.

        Args:
            rows: Number of rows.
            length: Tokens per row.

        Returns:
            Token ids of shape ``(rows, length)``, and the same with ``IGNORED`` in place of those
            that are not to be learned.
        """
        library = rows // 4 if self._generated else rows
        file_rows = [self._file_row(length) for _ in range(library // 2)]
        function_rows = [self._function_row(length) for _ in range(library - library // 2)]
        learned = [[(i, i) for i in row] for row in file_rows + function_rows]
        pairs = torch.tensor(learned + [self._generated_row(length) for _ in range(rows - library)])
        return pairs[..., 0], pairs[..., 1]


def generated_document(tokenizer: Tokenizer, function: Function) -> list[tuple[int, int]]:
    """Tokenize a generated function and close it with the end-of-text mark.

    Args:
        tokenizer: Trained tokenizer.
        function: A generated function.

    Returns:
        Token ids, each with what is to be predicted in its place: ``IGNORED`` in the prompt.

    Raises:
        ValueError: If the prompt alone would be cut into other tokens.
    """
    ids = [
        *tokenizer.encode(function.prompt + function.body).ids,
        tokenizer.token_to_id(END_OF_TEXT),
    ]
    prompt = tokenizer.encode(function.prompt).ids
    if ids[: len(prompt)] != prompt:
        raise ValueError(f"the prompt of {function.name} ends inside a token")
    return [(i, i if n >= len(prompt) else IGNORED) for n, i in enumerate(ids)]


# --------------------------------------------------------------------------------------
# Stage 4: training
# --------------------------------------------------------------------------------------


def build_model(end_of_text_id: int, args: argparse.Namespace) -> LlamaForCausalLM:
    """Create the untrained network.

    Args:
        end_of_text_id: Id used for begin, end and padding.
        args: Command-line options with the network's dimensions.

    Returns:
        A Llama model with tied input and output embeddings.
    """
    config = LlamaConfig(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=args.hidden,
        intermediate_size=args.intermediate,
        num_hidden_layers=args.layers,
        num_attention_heads=args.heads,
        num_key_value_heads=args.kv_heads,
        max_position_embeddings=CONTEXT_LENGTH,
        tie_word_embeddings=True,
        bos_token_id=end_of_text_id,
        eos_token_id=end_of_text_id,
        pad_token_id=end_of_text_id,
        rms_norm_eps=1e-5,
        rope_theta=10000.0,
    )
    model = LlamaForCausalLM(config)
    # LlamaForCausalLM zeroes the padding row, which here is the end-of-text row and is in use.
    model.model.embed_tokens.padding_idx = None
    with torch.no_grad():
        model.model.embed_tokens.weight[end_of_text_id].normal_(std=config.initializer_range)
    return model


def build_optimizers(model: LlamaForCausalLM, learning_rate: float) -> list[torch.optim.Optimizer]:
    """Give hidden matrices to Muon and everything else to AdamW.

    Args:
        model: Network to train.
        learning_rate: Peak rate; Muon's is scaled so that both move weights alike.

    Returns:
        The two optimizers.
    """
    matrices, embeddings, vectors = [], [], []
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            vectors.append(parameter)
        elif "embed_tokens" in name or "lm_head" in name:
            embeddings.append(parameter)
        else:
            matrices.append(parameter)
    muon = torch.optim.Muon(
        matrices, lr=learning_rate, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"
    )
    groups = [
        {"params": embeddings, "weight_decay": 0.01},
        {"params": vectors, "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.95), fused=True)
    return [muon, adamw]


@dataclass
class Schedule:
    """Learning-rate factor: linear warmup, constant, then decay to zero, counted in steps.

    Attributes:
        decay_start: Step at which the decay begins; None while it is still open.
        steps: Total number of steps; None while it is still open.
    """

    decay_start: int | None
    steps: int | None

    def begin_decay(self, step: int) -> None:
        """Fix the remaining course so that the decay takes ``DECAY_SHARE`` of the run.

        Args:
            step: Step at which the decay begins.
        """
        self.decay_start = step
        self.steps = max(step + 1, round(step / (1 - DECAY_SHARE)))

    def factor(self, step: int) -> float:
        """Compute the factor for one step.

        Args:
            step: Zero-based step.

        Returns:
            A factor between 0 and 1.
        """
        warmup = min(1.0, (step + 1) / WARMUP_STEPS)
        if self.decay_start is None or self.steps is None or step < self.decay_start:
            return warmup
        return warmup * (self.steps - step) / (self.steps - self.decay_start)


def loss_of(
    model: Callable[..., Any], ids: torch.Tensor, learned: torch.Tensor, bf16: bool
) -> torch.Tensor:
    """Compute the mean next-token loss of a batch.

    Args:
        model: Network, compiled or not.
        ids: Token ids of shape ``(rows, length + 1)``.
        learned: The same, with ``IGNORED`` in place of those that do not count.
        bf16: Whether matrix products run in bfloat16.

    Returns:
        Mean cross entropy in nats.
    """
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits
    return F.cross_entropy(
        logits.flatten(0, 1).float(), learned[:, 1:].flatten(), ignore_index=IGNORED
    )


def train(
    model: LlamaForCausalLM,
    data: TrainingData,
    args: argparse.Namespace,
    checkpoint: Callable[[int], None],
) -> dict[str, Any]:
    """Run the optimization.

    With ``--steps`` the course is fixed beforehand. With ``--max-minutes`` the constant phase
    lasts until the clock says that only the decay still fits; the step at which that happened is
    returned, so that the same course can be asked for again with ``--steps``.

    Args:
        model: Network to train in place.
        data: Source of batches.
        args: Command-line options.
        checkpoint: Called with the step number every ``args.checkpoint_every`` steps.

    Returns:
        Facts about the run for ``training.json``.
    """
    schedule = Schedule(args.decay_start, args.steps)
    if args.steps is not None and args.decay_start is None:
        schedule.decay_start = round(args.steps * (1 - DECAY_SHARE))
    forward = torch.compile(model, dynamic=False) if args.compile else model
    optimizers = build_optimizers(model, args.learning_rate)
    model.train()
    started = time.monotonic()
    running_loss = math.nan
    step = 0
    while schedule.steps is None or step < schedule.steps:
        if schedule.steps is None:
            elapsed_share = (time.monotonic() - started) / (60 * args.max_minutes)
            if elapsed_share >= 1 - DECAY_SHARE:
                schedule.begin_decay(step)
        factor = schedule.factor(step)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = args.learning_rate * factor
        # Short rows are cheaper per token; the first decay teaches the whole context length.
        decaying = schedule.decay_start is not None and step >= schedule.decay_start
        long = decaying and args.continue_from is None
        length = CONTEXT_LENGTH if long else CONTEXT_LENGTH // 2
        batch = data.batch(args.tokens_per_step // length, length + 1)
        loss = loss_of(forward, *batch, args.bf16)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        step += 1
        value = loss.item()
        running_loss = value if math.isnan(running_loss) else 0.95 * running_loss + 0.05 * value
        if step % args.log_every == 0 or step == 1:
            seconds = time.monotonic() - started
            speed = step * args.tokens_per_step / seconds
            print(
                f"step {step} of {schedule.steps or 'open'}  loss {running_loss:.3f}  "
                f"rate {args.learning_rate * factor:.2e}  {seconds:.0f} s  {speed:.0f} tokens/s",
                flush=True,
            )
        if args.checkpoint_every and step % args.checkpoint_every == 0:
            checkpoint(step)
    seconds = time.monotonic() - started
    tokens = step * args.tokens_per_step
    return {
        "steps": step,
        "decay_start": schedule.decay_start,
        "warmup_steps": WARMUP_STEPS,
        "tokens_per_step": args.tokens_per_step,
        "tokens_per_row": sorted({CONTEXT_LENGTH // 2, length}),
        "tokens_seen": tokens,
        "learning_rate": args.learning_rate,
        "matrix_products": "bfloat16" if args.bf16 else "float32",
        "training_seconds": round(seconds, 1),
        "tokens_per_second": round(tokens / seconds, 1),
        "training_loss_nats_per_token": round(running_loss, 4),
    }


# --------------------------------------------------------------------------------------
# Stages 5 and 6: saving and held-out loss
# --------------------------------------------------------------------------------------


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write the tokenizer in the ``transformers`` layout.

    Args:
        tokenizer: Trained tokenizer.
        folder: Destination.
    """
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        model_max_length=CONTEXT_LENGTH,
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )
    wrapped.save_pretrained(folder)


def save_model(model: LlamaForCausalLM, folder: Path) -> None:
    """Write configuration and float16 weights.

    Args:
        model: Trained network, left as it is.
        folder: Destination.

    Raises:
        ValueError: If a weight does not fit float16's range.
    """
    copy = LlamaForCausalLM(model.config)
    copy.load_state_dict(model.state_dict())
    largest = max(p.abs().max().item() for p in copy.parameters())
    if not largest < torch.finfo(torch.float16).max:
        raise ValueError(f"weight {largest} does not fit float16")
    end = model.config.eos_token_id
    copy.generation_config = GenerationConfig(
        do_sample=False, bos_token_id=end, eos_token_id=end, pad_token_id=end
    )
    copy.to(torch.float16).save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # safetensors writes it for its owner only


@torch.inference_mode()
def held_out_loss(
    model: LlamaForCausalLM, tokenizer: Tokenizer, files: list[SourceFile]
) -> dict[str, float | int]:
    """Measure the loss on held-out files in windows of the whole context, in float32.

    Args:
        model: Trained network.
        tokenizer: Its tokenizer.
        files: Held-out files.

    Returns:
        Token and byte counts, nats per token and bits per byte.
    """
    model.eval()
    nats, tokens, size = 0.0, 0, 0
    for file in files:
        ids = [0, *tokenizer.encode(file.text).ids]
        size += len(file.text.encode())
        for start in range(0, len(ids) - 1, CONTEXT_LENGTH):
            window = torch.tensor([ids[start : start + CONTEXT_LENGTH + 1]])
            count = window.shape[1] - 1
            nats += loss_of(model, window, window, bf16=False).item() * count
            tokens += count
    return {
        "held_out_tokens": tokens,
        "held_out_bytes": size,
        "held_out_loss_nats_per_token": round(nats / tokens, 4),
        "held_out_bits_per_byte": round(nats / math.log(2) / size, 4),
    }


@torch.inference_mode()
def exact_bodies(
    model: LlamaForCausalLM, tokenizer: Tokenizer, generated: Sequence[Function]
) -> int:
    """Count the functions whose body the model writes token for token, and then ends.

    Args:
        model: Trained network.
        tokenizer: Its tokenizer.
        generated: Generated functions.

    Returns:
        How many bodies are exact; a correct body written in another way does not count.
    """
    model.eval()
    end = tokenizer.token_to_id(END_OF_TEXT)
    exact = 0
    for function in generated:
        prompt = tokenizer.encode(function.prompt).ids
        wanted = [i for i, _ in generated_document(tokenizer, function)][len(prompt) :]
        output = model.generate(
            input_ids=torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=len(wanted),
            do_sample=False,
            eos_token_id=end,
            pad_token_id=end,
        )
        exact += output[0, len(prompt) :].tolist() == wanted
    return exact


def read_tasks(path: Path) -> list[dict[str, Any]]:
    """Read tasks, one JSON object a line."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def run_training(args: argparse.Namespace) -> None:
    """Run stages 1 to 6.

    Args:
        args: Command-line options.
    """
    root = Path(args.corpus)
    first_stage = (
        json.loads((args.continue_from / "training.json").read_text(encoding="utf-8"))
        if args.continue_from
        else None
    )
    files = collect_corpus(root)
    held_out = [f for f in files if is_held_out(f)]
    training = [f for f in files if not is_held_out(f)]
    print(f"corpus: {len(files)} files, {len(held_out)} held out")

    tokenizer = train_tokenizer([f.text for f in training])
    args.output.mkdir(parents=True, exist_ok=True)
    save_tokenizer(tokenizer, args.output)
    avoid = frozenset(task["entry_point"] for task in read_tasks(args.prompts))
    generated = list(functions("training", args.generated, args.seed, avoid))
    validation = list(functions("validation", VALIDATION_FUNCTIONS, args.seed, avoid))
    data = TrainingData(tokenizer, training, generated, args.seed)
    print(f"training tokens: {data.file_tokens}, functions: {data.function_count}", flush=True)

    torch.manual_seed(args.seed)
    if args.continue_from is None:
        model = build_model(tokenizer.token_to_id(END_OF_TEXT), args)
    else:
        model = LlamaForCausalLM.from_pretrained(args.continue_from, dtype=torch.float32)
        model.model.embed_tokens.padding_idx = None
    parameters = sum(p.numel() for p in model.parameters())
    print(f"parameters: {parameters}", flush=True)

    def checkpoint(step: int) -> None:
        """Save weights, and print the held-out loss, in the middle of training."""
        save_model(model, args.output)
        measured = held_out_loss(model, tokenizer, held_out)
        exact = exact_bodies(model, tokenizer, validation)
        model.train()
        print(f"checkpoint at step {step}: {measured}, {exact} of {len(validation)}", flush=True)

    facts = train(model, data, args, checkpoint)
    save_model(model, args.output)
    saved = LlamaForCausalLM.from_pretrained(args.output, dtype=torch.float32)
    record = {
        "corpus": "CPython standard library sources",
        "corpus_python": platform.python_version(),
        "corpus_sha256": corpus_digest(files),
        "corpus_files": len(files),
        "corpus_bytes": sum(len(f.text.encode()) for f in files),
        "held_out_files": [f.name for f in held_out],
        "training_file_tokens": data.file_tokens,
        "training_functions": data.function_count,
        "vocabulary_size": VOCABULARY_SIZE,
        "parameters": parameters,
        "seed": args.seed,
        "generated_functions": len(generated),
        **facts,
        **held_out_loss(saved, tokenizer, held_out),
        "validation_functions": len(validation),
        "validation_exact_bodies": exact_bodies(saved, tokenizer, validation),
        "first_stage": first_stage,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "tokenizers": tokenizers.__version__,
        "threads": args.threads,
    }
    text = json.dumps(record, indent=2) + "\n"
    (args.output / "training.json").write_text(text, encoding="utf-8")
    print(text)


# --------------------------------------------------------------------------------------
# The evaluation mode
# --------------------------------------------------------------------------------------


def tokenize_verdict(text: str) -> str:
    """Judge whether text is tokenizable Python up to its last complete line.

    Args:
        text: Prompt and completion.

    Returns:
        ``"ok"``; ``"open"`` when the only fault is that the text ends inside a bracket or a
        triple-quoted string; or ``"bad"``.
    """
    complete = text[: text.rfind("\n") + 1]
    try:
        for token in tokenize.generate_tokens(io.StringIO(complete).readline):
            if token.type == tokenize.ERRORTOKEN:
                return "bad"
    except tokenize.TokenError as error:
        return "open" if str(error.args[0]).startswith("EOF in multi-line") else "bad"
    except SyntaxError:
        return "bad"
    return "ok"


@torch.inference_mode()
def run_evaluation(args: argparse.Namespace) -> None:
    """Complete every prompt greedily and print how many completions tokenize.

    Args:
        args: Command-line options.
    """
    model = AutoModelForCausalLM.from_pretrained(args.output, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(args.output)
    prompts = [task["prompt"] for task in read_tasks(args.prompts)]
    verdicts = []
    for index, prompt in enumerate(prompts):
        inputs = tokenizer(prompt, return_tensors="pt")
        output = model.generate(
            input_ids=inputs.input_ids,
            attention_mask=inputs.attention_mask,
            max_new_tokens=args.new_tokens,
            do_sample=False,
        )
        new_ids = output[0, inputs.input_ids.shape[1] :]
        completion = tokenizer.decode(new_ids, skip_special_tokens=True)
        verdicts.append(tokenize_verdict(prompt + completion))
        if index < args.show:
            print(f"----- prompt {index}: {verdicts[-1]}, {len(new_ids)} new tokens")
            print(prompt + completion)
    strict = verdicts.count("ok")
    lenient = strict + verdicts.count("open")
    print(f"verdicts: {' '.join(verdicts)}")
    print(f"strict:  {strict} of {len(prompts)} ({strict / len(prompts):.1%})")
    print(f"lenient: {lenient} of {len(prompts)} ({lenient / len(prompts):.1%})")


# --------------------------------------------------------------------------------------
# The command line
# --------------------------------------------------------------------------------------


def parse_arguments() -> argparse.Namespace:
    """Read the command line.

    Returns:
        The options.
    """
    parser = argparse.ArgumentParser(
        description="Train or evaluate the language model bundled with slm_energy."
    )
    add = parser.add_argument
    add("--evaluate", action="store_true", help="evaluate the saved model instead of training")
    add("--output", type=Path, default=DEFAULT_OUTPUT, help="model folder (default: the bundled)")
    add(
        "--corpus",
        type=Path,
        default=Path(sysconfig.get_path("stdlib")),
        help="folder of Python sources (default: the running interpreter's standard library)",
    )
    add("--seed", type=int, default=20240607, help="seed of weights and sampling")
    add("--threads", type=int, default=2, help="CPU threads for torch")

    course = parser.add_argument_group("training course")
    course.add_argument("--steps", type=int, help="train for exactly this many steps")
    course.add_argument("--decay-start", type=int, help="with --steps: step that begins the decay")
    course.add_argument(
        "--max-minutes", type=float, default=45.0, help="without --steps: time to aim for"
    )
    course.add_argument(
        "--continue-from", type=Path, help="second stage: folder of the weights to start from"
    )
    course.add_argument(
        "--generated", type=int, default=0, help="second stage: number of generated functions"
    )
    course.add_argument("--tokens-per-step", type=int, default=4096, help="batch size in tokens")
    course.add_argument("--learning-rate", type=float, default=3e-3, help="peak learning rate")
    course.add_argument(
        "--bf16", action=argparse.BooleanOptionalAction, default=True, help="bfloat16 products"
    )
    course.add_argument(
        "--compile", action=argparse.BooleanOptionalAction, default=True, help="torch.compile"
    )
    course.add_argument("--log-every", type=int, default=20, help="steps between log lines")
    course.add_argument(
        "--checkpoint-every", type=int, default=0, help="steps between checkpoints, 0 for none"
    )

    shape = parser.add_argument_group("network")
    shape.add_argument("--hidden", type=int, default=256, help="width of the residual stream")
    shape.add_argument("--intermediate", type=int, default=704, help="width of the MLP")
    shape.add_argument("--layers", type=int, default=5, help="number of layers")
    shape.add_argument("--heads", type=int, default=8, help="query heads")
    shape.add_argument("--kv-heads", type=int, default=4, help="key and value heads")

    judge = parser.add_argument_group("evaluation")
    judge.add_argument("--prompts", type=Path, default=DEFAULT_PROMPTS, help="JSONL of prompts")
    judge.add_argument("--new-tokens", type=int, default=96, help="tokens per completion")
    judge.add_argument("--show", type=int, default=3, help="completions to print in full")

    args = parser.parse_args()
    if args.decay_start is not None and args.steps is None:
        parser.error("--decay-start needs --steps")
    return args


def main() -> None:
    """Run the mode that the command line asks for."""
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    if args.evaluate:
        run_evaluation(args)
    else:
        run_training(args)


if __name__ == "__main__":
    main()
