#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes what transformers' LlamaForCausalLM makes of weights that test_llama_parity makes again bit by bit.

    python3 -m venv env
    env/bin/pip install torch==2.15.0 safetensors==0.8.0 transformers==5.23.0 numpy==2.4.6
    env/bin/python make_golden.py

    grouped/    two query heads a key head, an output layer of its own
    tied/       as many key heads as query heads, the output layer is the embedding
    scaled/     one key head, the rotary scaling of Llama 3.1, sequences longer than its first context

Each folder gets config.json, as transformers writes it, and expected.safetensors, all computed in float32 on the CPU:

    logits              [sequences, length, vocabulary]
    gradient.<name>     of the loss, for each parameter
    losses              [10], before each of ten steps of plain gradient descent

Numbers are SplitMix64 (Steele, Lea & Flood 2014), 12 bits each: u = ⌊word / 2^52⌋ / 2^12, seeded with k for the k-th
parameter in the order of the model, whose elements are ½ u − ¼, and 1 more for a norm's gains; seeded with 1000, the
tokens are ⌊u · vocabulary⌋. The second of the two sequences begins with three rows of padding. The loss is the mean of
−log p over the tokens that follow a token.
"""

import pathlib

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

HERE = pathlib.Path(__file__).parent
SEQUENCES, LENGTH, PADDING, STEPS, RATE = 2, 12, 3, 10, 0.5


def uniform(seed, count):
    with np.errstate(over="ignore"):
        x = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    return (x >> np.uint64(52)).astype(np.float64) / 4096


def batch(vocabulary):
    """Tokens, mask and labels [sequences × length]; padding is token 0 that nobody sees."""
    tokens = torch.tensor(uniform(1000, SEQUENCES * LENGTH) * vocabulary, dtype=torch.int64).reshape(SEQUENCES, LENGTH)
    mask = torch.ones_like(tokens)
    mask[1, :PADDING] = 0
    tokens = tokens * mask
    labels = torch.where(mask == 1, tokens, -100)
    labels[1, PADDING] = -100  # it follows no token
    return tokens, mask, labels


def run(model):
    """Logits, gradients and losses of a model, which is changed."""
    tokens, mask, labels = batch(model.config.vocab_size)
    results = {}
    losses = []
    for step in range(STEPS):
        model.zero_grad()
        out = model(input_ids=tokens, attention_mask=mask, labels=labels)
        out.loss.backward()
        losses.append(out.loss.item())
        if step == 0:
            results["logits"] = out.logits.detach().clone()
            results |= {f"gradient.{name}": p.grad.clone() for name, p in model.named_parameters()}
        with torch.no_grad():
            for p in model.parameters():
                p -= RATE * p.grad
    results["losses"] = torch.tensor(losses)
    return results


def seeded(config):
    model = LlamaForCausalLM(config).to(torch.float32)
    with torch.no_grad():
        for k, (name, p) in enumerate(model.named_parameters()):
            values = uniform(k, p.numel()) / 2 - 0.25 + ("norm" in name)
            p.copy_(torch.tensor(values, dtype=torch.float32).reshape(p.shape))
    return model


CASES = {
    "grouped": dict(num_key_value_heads=2, tie_word_embeddings=False, rms_norm_eps=1e-5),
    "tied": dict(num_key_value_heads=4, tie_word_embeddings=True, head_dim=2),
    "scaled": dict(num_key_value_heads=1, tie_word_embeddings=False, head_dim=8, max_position_embeddings=64,
                   rope_parameters={"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                                    "high_freq_factor": 4.0, "original_max_position_embeddings": 32,
                                    "rope_theta": 100.0}),
}


def config_of(case):
    return LlamaConfig(**(dict(vocab_size=16, hidden_size=8, intermediate_size=12, num_hidden_layers=2,
                               num_attention_heads=4, head_dim=4, max_position_embeddings=32, bos_token_id=None,
                               eos_token_id=None, attn_implementation="eager") | CASES[case]))


def main():
    torch.set_num_threads(1)
    for case in CASES:
        config = config_of(case)
        config.save_pretrained(HERE / case)
        save_file(run(seeded(config)), HERE / case / "expected.safetensors", {"format": "pt"})


if __name__ == "__main__":
    main()
