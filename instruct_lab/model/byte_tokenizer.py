"""A byte-level tokenizer with 256 byte tokens, and the special tokens for models with random weights."""

from __future__ import annotations

from typing import Any

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
DECODER_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
ENCODER_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ENCODER_DECODER_TOKENS = ("<pad>", "</s>", "<mask>", *(f"<extra_id_{number}>" for number in range(100)))


def special_tokens_of(family: str) -> tuple[str, ...]:
    """Return the special tokens for a model of this family.

    A decoder has the tokens of ChatML, an encoder those of BERT, and an encoder-decoder those of T5 and BART.
    """
    tokens = {"decoder": DECODER_TOKENS, "encoder": ENCODER_TOKENS, "encoder-decoder": ENCODER_DECODER_TOKENS}
    return tokens[family]


def byte_tokenizer(family: str = "decoder") -> Any:
    """Build a tokenizer whose tokens are the 256 bytes and the family's special tokens, so it can encode every text."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())  # one printable letter for each of the 256 bytes
    backend = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(letters)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokens = special_tokens_of(family)
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in tokens])
    return wrap_backend(backend, family)


def wrap_backend(backend: Any, family: str) -> Any:
    """Make a transformers tokenizer from a byte-level one of the library `tokenizers`.

    The new tokenizer adds the family's special tokens to each text, such as `[CLS]` and `[SEP]` for an encoder.
    """
    from tokenizers import decoders, processors
    from transformers import PreTrainedTokenizerFast

    backend.decoder = decoders.ByteLevel()
    around = {"encoder": ("[CLS] $A [SEP]", ("[CLS]", "[SEP]")), "encoder-decoder": ("$A </s>", ("</s>",))}
    if family in around:
        single, tokens = around[family]
        ids = [(token, backend.token_to_id(token)) for token in tokens]
        backend.post_processor = processors.TemplateProcessing(single=single, special_tokens=ids)
    names: dict[str, dict[str, Any]] = {
        "decoder": {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
        "encoder": {
            "pad_token": "[PAD]",
            "unk_token": "[UNK]",
            "cls_token": "[CLS]",
            "sep_token": "[SEP]",
            "mask_token": "[MASK]",
        },
        "encoder-decoder": {
            "pad_token": "<pad>",
            "eos_token": "</s>",
            "mask_token": "<mask>",
            "additional_special_tokens": list(ENCODER_DECODER_TOKENS[3:]),
        },
    }
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, clean_up_tokenization_spaces=False, **names[family])
    if family == "decoder":
        tokenizer.chat_template = CHATML
    return tokenizer
