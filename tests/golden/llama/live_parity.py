#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds the library's transformer against LlamaForCausalLM, both run now, on models with new random weights.

    python3 -m venv env
    env/bin/pip install torch==2.15.0 safetensors==0.8.0 transformers==5.23.0 numpy==2.4.6 peft==0.21.2
    env/bin/python live_parity.py [--seed N] [--compiler g++]

Compiles live_parity.cpp, has transformers write models of the configurations of make_golden.py and of a larger one,
and checks of each: logits within 1e-4, every gradient within 1e-4 of its largest element, ten losses within 1e-3; that
what the library saves is loaded by transformers with the same weights; and, where PEFT is installed, the same of LoRA
adapters. Prints what it found and ends with 1 if anything is off.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile
import warnings

import torch
from safetensors.torch import load_file
from transformers import LlamaForCausalLM
from transformers.utils import logging

sys.dont_write_bytecode = True
import make_golden  # noqa: E402

try:
    import peft
except ImportError:
    peft = None

ROOT = pathlib.Path(__file__).resolve().parents[3]
make_golden.CASES["larger"] = dict(vocab_size=300, hidden_size=96, intermediate_size=200, num_hidden_layers=4,
                                   num_attention_heads=6, num_key_value_heads=3, head_dim=16,
                                   tie_word_embeddings=False)
wrong = 0


def check(what, value, limit):
    global wrong
    ok = value <= limit
    wrong += not ok
    print(f"  {what:<44} {value:9.2e}  (at most {limit:g}){'' if ok else '  WRONG'}")


def compare(found, expected, prefix=""):
    mask = make_golden.batch(2)[1].bool()  # padding predicts nothing
    check(prefix + "logits, absolute",
          (found[prefix + "logits"] - expected["logits"])[mask].abs().max().item(), 1e-4)
    relative = 0.0
    for name, g in expected.items():
        if name.startswith("gradient."):
            relative = max(relative, ((found[prefix + name] - g).abs().max() / g.abs().max().clamp_min(1e-30)).item())
    check(prefix + "gradients, worst of a largest element", relative, 1e-4)
    check(prefix + "losses, absolute", (found[prefix + "losses"] - expected["losses"]).abs().max().item(), 1e-3)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compiler", default="g++")
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    warnings.simplefilter("ignore")
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        program = scratch / "live_parity"
        subprocess.run([options.compiler, "-std=c++20", "-O2", "-DDOCTEST_CONFIG_DISABLE", f"-I{ROOT}/include", f"-I{ROOT}/tests",
                        "-isystem", "/usr/include/eigen3", str(pathlib.Path(__file__).with_suffix(".cpp")),
                        "-o", str(program), "-lutf8proc", "-lz", "-lpthread"], check=True)
        for case in make_golden.CASES:
            print(f"{case}:")
            folder, out = scratch / case, scratch / (case + ".out")
            model = LlamaForCausalLM(make_golden.config_of(case))
            deviation = 0.6 / model.config.hidden_size**0.5
            with torch.no_grad():
                for name, p in model.named_parameters():
                    p.copy_(torch.randn_like(p) * deviation + ("norm" in name))
            model.save_pretrained(folder)
            adapted = None
            if peft is not None:
                layers = ["q_proj", "v_proj", "o_proj", "down_proj"]
                if not model.config.tie_word_embeddings:
                    layers.append("lm_head")
                adapted = peft.get_peft_model(
                    LlamaForCausalLM.from_pretrained(folder, attn_implementation="eager"),
                    peft.LoraConfig(r=3, lora_alpha=2, target_modules=layers, task_type="CAUSAL_LM"))
                with torch.no_grad():
                    for name, p in adapted.named_parameters():
                        if "lora" in name:
                            p.copy_(torch.randn_like(p) * deviation)
                adapted.save_pretrained(folder / "adapter")
            out.mkdir()
            subprocess.run([program, folder, out], check=True)
            found = load_file(out / "results.safetensors")

            again = LlamaForCausalLM.from_pretrained(out / "model", attn_implementation="eager")
            check("weights saved by the library", max(
                (p - q).abs().max().item() for p, q in zip(model.parameters(), again.parameters(), strict=True)), 0)
            if adapted is not None:
                base = LlamaForCausalLM.from_pretrained(folder, attn_implementation="eager")
                loaded = peft.PeftModel.from_pretrained(base, out / "adapter")
                check("adapters saved by the library", max(
                    (p - q).abs().max().item()
                    for p, q in zip(adapted.parameters(), loaded.parameters(), strict=True)), 0)
                compare(found, adapter_run(adapted), "adapted.")
            compare(found, make_golden.run(model))
    return 1 if wrong else 0


def adapter_run(model):
    """As make_golden.run, for the parameters that learn, under the names that files have them."""
    adapters = {name.replace(".default.", "."): p for name, p in model.named_parameters() if "lora" in name}
    tokens, mask, labels = make_golden.batch(model.config.vocab_size)
    model.eval()
    results, losses = {}, []
    for step in range(make_golden.STEPS):
        model.zero_grad()
        out = model(input_ids=tokens, attention_mask=mask, labels=labels)
        out.loss.backward()
        losses.append(out.loss.item())
        if step == 0:
            results["logits"] = out.logits.detach().clone()
            results |= {f"gradient.{name}": p.grad.clone() for name, p in adapters.items()}
        with torch.no_grad():
            for p in adapters.values():
                p -= make_golden.RATE * p.grad
    return results | {"losses": torch.tensor(losses)}


if __name__ == "__main__":
    sys.exit(main())
