"""Writes a tiny llama model with random weights for the real llama.cpp server: `make_model.py OUT.gguf`.

The model is noise plus a chain: it says SENTENCE whatever it is asked, and stops.  Where a grammar forbids that (a JSON
schema, a forced tool call) it falls back to the characters that close what was opened, so that every answer ends.
With `--call` it makes that one tool call first, where tools are offered, the user says `--when`, and no result is there yet that
holds `--until`: its last words show that the result has come to it.
Starting the server is `serve.py`'s.  Needs the packages gguf and numpy.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path

import gguf
import numpy as np

SENTENCE = "Hello from the tiny random llama model that our tests have made"
FILLER = (
    "a all an and are as at be but by can city code do file for get go has he how if in is it name no not number object of on one or "
    "out see set so string text this to token tool true type up use user was way we weather what when who will with word you"
)

TOOL_CALL, TOOL_END, TOOL_END_LINE = '<tool_call>\n{"name": "', "</tool_call>", "\n</tool_call>"

# What a grammar may ask for, the likeliest first: quotes and closing brackets before anything that opens a new level.
FALLBACKS = {
    TOOL_CALL: 2.0, '"': 1.6, "}": 1.5, TOOL_END: 1.45, TOOL_END_LINE: 1.45, "]": 1.4, ":": 1.3, ",": 1.2, "{": 1.1, "1": 1.0,
}  # fmt: skip

# ChatML; the server finds out by this template that the model takes tools, and how it writes a call.
TEMPLATE = """\
{%- if tools %}{{- '<|im_start|>system\\n<tools>' }}
{%- for tool in tools %}{{- '\\n' }}{{- tool | tojson }}{%- endfor %}
{{- '\\n</tools>\\nA call is written as\\n<tool_call>\\n{"name": <function-name>, "arguments": <args-json-object>}\\n</tool_call><|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
{%- if message.role == 'tool' %}
{{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}
{%- else %}
{{- '<|im_start|>' + message.role }}
{%- if message.content %}{{- '\\n' + message.content }}{%- endif %}
{%- for call in message.tool_calls or [] %}
{%- if call.function %}{%- set call = call.function %}{%- endif %}
{{- '\\n<tool_call>\\n{"name": "' + call.name + '", "arguments": ' }}{{- call.arguments | tojson }}{{- '}\\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""

# Put before TEMPLATE where the system prompt is to come before the tools.
SYSTEM_FIRST = """\
{%- if tools and messages[0].role == 'system' %}
{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- set messages = messages[1:] %}
{%- endif %}
"""

# Put after TEMPLATE where a call is to be made: the prompt ends in the token from which the chain goes to the call.
CALL_NOW = "<|call|>"
CALLING = """\
{%- set seen = namespace(asked=false, result=false) %}
{%- for message in messages %}
{%- if message.role == 'user' and WHEN in message.content %}{%- set seen.asked = true %}{%- endif %}
{%- if message.role == 'tool' and UNTIL in message.content %}{%- set seen.result = true %}{%- endif %}
{%- endfor %}
{%- if add_generation_prompt and tools and seen.asked and not seen.result %}{{- '<|call|>' }}{%- endif %}"""


@dataclass
class Vocabulary:
    """A SentencePiece vocabulary: control tokens, the 256 bytes, printable ASCII, and words with all their prefixes."""

    texts: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    types: list[int] = field(default_factory=list)
    index: dict[str, int] = field(default_factory=dict)

    def add(self, text: str, kind: gguf.TokenType = gguf.TokenType.NORMAL, score: float = 0.0) -> int:
        """The token's number; a text that is there already keeps its own."""
        if text not in self.index:
            self.index[text] = len(self.texts)
            self.texts.append(text)
            self.scores.append(score)
            self.types.append(int(kind))
        return self.index[text]

    def add_word(self, word: str) -> None:
        """The word with and without a space before it.  Merging goes letter by letter, so every prefix is needed."""
        for text in (word, "▁" + word):
            for end in range(2, len(text) + 1):
                self.add(text[:end], score=end - 100.0)


def vocabulary(call: str = "") -> Vocabulary:
    """All tokens, a call being one of them.  The order matters: llama.cpp is told that 0 is unknown, 1 begins and 2 ends a text."""
    kinds = gguf.TokenType
    words = Vocabulary()
    words.add("<unk>", kinds.UNKNOWN)
    for text in ("<s>", "</s>", "<|im_start|>", "<|im_end|>"):
        words.add(text, kinds.CONTROL)
    for byte in range(256):
        words.add(f"<0x{byte:02X}>", kinds.BYTE)
    for text in ("<tool_call>", TOOL_CALL, TOOL_END, TOOL_END_LINE):
        words.add(text, kinds.USER_DEFINED)
    if call:
        words.add(CALL_NOW, kinds.CONTROL)
        words.add(call, kinds.USER_DEFINED)
    words.add("▁", score=-1.0)
    for code in range(33, 127):
        words.add(chr(code), score=-1000.0 - code)
    for word in dict.fromkeys(f"{FILLER} {SENTENCE}".split()):
        words.add_word(word)
    return words


def noise(random: np.random.Generator, *shape: int) -> np.ndarray:
    """Small random weights."""
    return (random.standard_normal(shape) * 0.02).astype(np.float32)


def embeddings(
    words: Vocabulary, random: np.random.Generator, width: int, call: str = "", endless: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The input and output embeddings that make the chain; `endless`, its last word leads to its first.

    Dimension 0 of a token's embedding says "not part of the sentence", dimension i + 1 "word i of it"; the output weight of
    word i + 1 listens to that dimension, and that of the first word to dimension 0.  One more dimension leads to the call.
    """
    chain = [words.add("▁" + word) for word in SENTENCE.split()]
    if len(set(chain)) != len(chain) or len(chain) + 3 > width:
        raise ValueError("SENTENCE must not repeat a word, and must be shorter than the embeddings are wide")
    end, last = words.index["</s>"], len(chain)
    inputs, outputs = noise(random, len(words.texts), width), noise(random, len(words.texts), width)
    inputs[:, 0] += 1.0
    for dimension, token in enumerate(chain, 1):
        inputs[token, 0] -= 1.0
        inputs[token, dimension] += 1.0
    for dimension, token in enumerate([*chain, chain[0] if endless else end]):
        outputs[token, dimension] += 3.0
    leads = [(TOOL_END, last + 1), (TOOL_END_LINE, last + 1), *([(call, last + 1), (CALL_NOW, last + 2)] if call else ())]
    for text, dimension in leads:
        inputs[words.index[text], 0] -= 1.0
        inputs[words.index[text], dimension] += 1.0
    outputs[end, last + 1] += 3.0
    if call:
        outputs[words.index[call], last + 2] += 5.0
    _prefer(words, outputs, last)
    return inputs, outputs


def _prefer(words: Vocabulary, outputs: np.ndarray, last: int) -> None:
    """Second choices, for grammars; never a raw byte or a control token by chance."""
    for dimension in (0, last):
        for text, weight in FALLBACKS.items():
            outputs[words.index[text], dimension] += weight
    for byte in range(256):
        outputs[words.index[f"<0x{byte:02X}>"], : last + 1] -= 1.0
    for text in ("<unk>", "<s>", "<|im_start|>"):
        outputs[words.index[text], : last + 1] -= 3.0


def write_model(
    path: Path,
    *,
    context: int = 131072,
    seed: int = 1,
    width: int = 64,
    layers: int = 2,
    heads: int = 4,
    call: str = "",
    when: str = "",
    until: str = "",
    system_first: bool = False,
    endless: bool = False,
) -> None:
    """Write the model; the same arguments give the same file.  `call` is JSON: {"name": …, "arguments": {…}}."""
    random = np.random.default_rng(seed)
    called = f"<tool_call>\n{call}{TOOL_END_LINE}" if call else ""
    words = vocabulary(called)
    inputs, outputs = embeddings(words, random, width, called, endless)
    writer = gguf.GGUFWriter(str(path), "llama")
    _write_header(writer, words, context=context, width=width, layers=layers, heads=heads)
    calling = CALLING.replace("WHEN", json.dumps(when)).replace("UNTIL", json.dumps(until))
    writer.add_chat_template(SYSTEM_FIRST * system_first + TEMPLATE + calling * bool(call))
    writer.add_tensor("token_embd.weight", inputs)
    writer.add_tensor("output_norm.weight", np.ones(width, np.float32))
    writer.add_tensor("output.weight", outputs)
    for layer in range(layers):
        _write_layer(writer, f"blk.{layer}", random, width)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_header(writer: gguf.GGUFWriter, words: Vocabulary, *, context: int, width: int, layers: int, heads: int) -> None:
    writer.add_name("nexus-tests-tiny")
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(2 * width)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(width // heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(words.texts))
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(words.texts)
    writer.add_token_scores(words.scores)
    writer.add_token_types(words.types)
    writer.add_unk_token_id(words.index["<unk>"])
    writer.add_bos_token_id(words.index["<s>"])
    writer.add_eos_token_id(words.index["</s>"])
    writer.add_eot_token_id(words.index["<|im_end|>"])
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)


def _write_layer(writer: gguf.GGUFWriter, block: str, random: np.random.Generator, width: int) -> None:
    for name in ("attn_norm", "ffn_norm"):
        writer.add_tensor(f"{block}.{name}.weight", np.ones(width, np.float32))
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        writer.add_tensor(f"{block}.{name}.weight", noise(random, width, width))
    for name in ("ffn_gate", "ffn_up"):
        writer.add_tensor(f"{block}.{name}.weight", noise(random, 2 * width, width))
    writer.add_tensor(f"{block}.ffn_down.weight", noise(random, width, 2 * width))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write a tiny random llama model.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--context", type=int, default=131072, help="tokens it says it was trained for")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--width", type=int, default=64, help="with fewer layers and heads, long prompts are read sooner")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--call", default="", help='a tool call to make first: {"name": …, "arguments": {…}}')
    parser.add_argument("--when", default="", help="what the user must say for the call to be made")
    parser.add_argument("--until", default="", help="what a tool's result must hold for the call to be over")
    parser.add_argument("--endless", action="store_true", help="say the sentence again and again, until the bound of the answer")
    parser.add_argument("--system-first", action="store_true", help="the system prompt before the tools, not after them")
    options = vars(parser.parse_args())
    write_model(options.pop("out"), **options)
