#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes, with Hugging Face's own packages, the files beside it that test_safetensors and test_llama_config read.

    python3 -m venv env
    env/bin/pip install torch==2.15.0 safetensors==0.8.0 transformers==5.23.0 numpy==2.4.6
    env/bin/python make_cases.py

    types.safetensors            a tensor of each element type and of unusual shapes
    float32.safetensors          the same numbers in three types, each file
    float16.safetensors          by themselves: what our writer must
    bfloat16.safetensors         write to the last byte
    tiny_llama/                  LlamaForCausalLM.save_pretrained, in shards; element i of tensor k is (1000 k + i) / 1024,
                                 tensors counted by sorted name
    llama3_scaling/config.json   a configuration with a rotary scaling, as transformers 5 writes it
    rotary_frequencies.inc       the frequencies of that scaling, and without it, in float
"""

import math
import pathlib

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

HERE = pathlib.Path(__file__).parent
# two subnormals of float16; the largest number that stays finite in it, and the first that does not
NUMBERS = [0.0, -0.0, 1.0, -1.5, 1 / 3, -2.0**-20 / 3, 1e-7, 65519.99, 65520.0, 3e38, math.inf, -math.inf]


def types():
    numbers = torch.tensor([0.0, -0.0, 1.5, -2.0**-14, math.inf, -math.inf])
    tensors = {str(t).removeprefix("torch."): numbers.to(t)
               for t in [torch.float64, torch.float32, torch.float16, torch.bfloat16]}
    tensors["float16.subnormal"] = torch.tensor([2.0**-24, -3 * 2.0**-24], dtype=torch.float16)
    tensors["bfloat16.subnormal"] = torch.tensor([2.0**-133, -3 * 2.0**-133], dtype=torch.bfloat16)
    for t in [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8]:
        tensors[str(t).removeprefix("torch.")] = torch.tensor([[1, 2, 3]], dtype=t)
    tensors["bool"] = torch.tensor([True, False])
    tensors["float8"] = torch.tensor([1.0, 2.0]).to(torch.float8_e4m3fn)
    tensors["scalar"] = torch.tensor(2.5)
    tensors["empty"] = torch.zeros(3, 0, 2)
    tensors["Żółw \"quoted\""] = torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]]])
    save_file(tensors, HERE / "types.safetensors", {"format": "pt", "note": "a\nb"})


def numbers():
    for dtype in [torch.float32, torch.float16, torch.bfloat16]:
        first = torch.tensor(NUMBERS, dtype=torch.float64).to(torch.float32).to(dtype)
        tensors = {"a": first, "b": torch.arange(6, dtype=dtype).reshape(2, 3), "c": torch.tensor(-1.0, dtype=dtype)}
        save_file(tensors, HERE / f"{str(dtype).removeprefix('torch.')}.safetensors", {"format": "pt"})


def tiny_llama():
    config = LlamaConfig(vocab_size=12, hidden_size=8, intermediate_size=10, num_hidden_layers=2,
                         num_attention_heads=4, num_key_value_heads=2, head_dim=6, max_position_embeddings=32,
                         rms_norm_eps=1e-5, rope_theta=5000.0, bos_token_id=None, eos_token_id=[2, 3])
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for k, (_, tensor) in enumerate(sorted(model.named_parameters())):
            tensor.copy_(((1000 * k + torch.arange(tensor.numel())) / 1024).reshape(tensor.shape))
    model.save_pretrained(HERE / "tiny_llama", max_shard_size="3KB")
    (HERE / "tiny_llama" / "generation_config.json").unlink(missing_ok=True)


def scaling():
    rope = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 512, "rope_theta": 500000.0}
    config = LlamaConfig(vocab_size=12, hidden_size=64, intermediate_size=10, num_hidden_layers=1,
                         num_attention_heads=2, max_position_embeddings=4096, rope_parameters=rope,
                         tie_word_embeddings=True, eos_token_id=None)
    config.save_pretrained(HERE / "llama3_scaling")
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    plain = 1.0 / (500000.0 ** (torch.arange(0, 32, 2, dtype=torch.int64).float() / 32))
    with open(HERE / "rotary_frequencies.inc", "w") as f:
        f.write("// SPDX-License-Identifier: Apache-2.0\n// Made by make_cases.py: {plain, scaled}.\n")
        for pair in zip(plain.tolist(), scaled.tolist()):
            f.write("{%.9g, %.9g},\n" % pair)


if __name__ == "__main__":
    types()
    numbers()
    tiny_llama()
    scaling()
