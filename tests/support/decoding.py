"""Tiny random decoders, and greedy decoding at its plainest."""

import torch

from instruct_lab.model import Decoder, Random

SETTINGS = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 96,
    "initializer_range": 0.4,  # so that answers differ from one another
}
STOPS = [258, *range(0, 256, 9)]


def load(cache, **settings):
    made = Decoder(weights=Random(settings={**SETTINGS, **settings}))
    tokenizer = made.load_tokenizer(cache)
    return tokenizer, made.load(tokenizer, cache).model


def one_by_one(model, prompts, max_new_tokens, stops):
    """Greedy decoding at its plainest: no cache, no padding, no batch."""
    answers = []
    with torch.no_grad():
        for prompt in prompts:
            ids = list(prompt)
            while len(ids) < len(prompt) + max_new_tokens:
                token = int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
                if token in stops:
                    break
                ids.append(token)
            answers.append(ids[len(prompt) :])
    return answers
