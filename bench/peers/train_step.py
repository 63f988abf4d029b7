#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A step of training of a language model in PyTorch: the model and the batch of ../cuda/train_step.cpp.

LlamaForCausalLM of transformers with sdpa attention: 12 layers of width 768 with 12 heads, 2048 between gate and down,
50304 tokens, input and output layer the same: 124 million parameters. Float parameters, bf16 autocast, the fused AdamW.
Prints one line of JSON for each mode (--mode): eager; compiled, torch.compile; tuned, the same with
mode="max-autotune". tokens_per_s is of the median step, between events on the device; peak_bytes is the most that
PyTorch's allocator had given out. The batch is the same at each step, so that the loss falls.
"""
import argparse
import json
import statistics
import sys

import torch
import transformers


def make_model(length):
    config = transformers.LlamaConfig(
        vocab_size=50304,
        hidden_size=768,
        intermediate_size=2048,
        num_hidden_layers=12,
        num_attention_heads=12,
        num_key_value_heads=12,
        max_position_embeddings=length,
        tie_word_embeddings=True,
        use_cache=False,
        attn_implementation="sdpa",
    )
    return transformers.LlamaForCausalLM(config).cuda().train()


def measure(mode, args):
    torch.manual_seed(1)
    torch.compiler.reset()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    model = make_model(args.length)
    parameters = sum(p.numel() for p in model.parameters())
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, weight_decay=1e-2, fused=True)
    tokens = torch.randint(model.config.vocab_size, (args.sequences, args.length), device="cuda")

    def loss_of(ids):
        with torch.autocast("cuda", dtype=torch.bfloat16):
            return model(input_ids=ids, labels=ids).loss

    if mode == "compiled":
        loss_of = torch.compile(loss_of)
    elif mode == "tuned":
        loss_of = torch.compile(loss_of, mode="max-autotune")

    def step():
        loss = loss_of(tokens)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach().clone()

    first = step().item()
    for _ in range(args.warm_up):
        step()
    times = []
    for _ in range(args.steps):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        loss = step()
        stop.record()
        stop.synchronize()
        times.append(start.elapsed_time(stop))
    median = statistics.median(times)
    return {
        "name": f"train_step/pytorch/bf16/{mode}",
        "ms": median,
        "ms_least": min(times),
        "ms_most": max(times),
        "tokens_per_s": 1e3 * args.sequences * args.length / median,
        "peak_bytes": torch.cuda.max_memory_allocated(),
        "parameters": parameters,
        "first_nats": first,
        "nats": loss.item(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "device": torch.cuda.get_device_name(),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", nargs="+", choices=["eager", "compiled", "tuned"], default=["eager", "compiled"])
    parser.add_argument("--sequences", type=int, default=16)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=21, help="steps that are timed")
    parser.add_argument("--warm-up", type=int, default=5, help="steps before, beside the first")
    args = parser.parse_args()
    if args.steps < 1:
        parser.error("--steps has to be at least 1")
    if not torch.cuda.is_available():
        sys.exit("train_step: needs a GPU")
    torch.set_float32_matmul_precision("high")
    for mode in args.mode:
        print(json.dumps(measure(mode, args)), flush=True)


if __name__ == "__main__":
    main()
