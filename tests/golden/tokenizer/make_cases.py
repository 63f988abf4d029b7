#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the tokenizers and cases.json of this folder: what Hugging Face's `tokenizers` makes of texts.

    python3 -m venv env && env/bin/pip install tokenizers==0.23.3
    env/bin/python make_cases.py            # writes *.json
    env/bin/python make_cases.py FILE ...   # loads tokenizer.json files written by dro and prints their ids of the texts

Each tokenizer is trained here on corpus.txt and stands for one way to cut text. cases.json has "texts" and for each
tokenizer two lists of ids a text: "plain" with special tokens as text and without a frame (`encode_special_tokens`),
"special" with special tokens recognised and the frame of the post-processor.
"""

import json
import random
import sys
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = Path(__file__).parent
GPT2 = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
MODERN = (
    r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|NUMBER| ?[^\s\p{L}\p{N}]+[\r\n]*"""
    r"""|\s*[\r\n]+|\s+(?!\S)|\s+"""
)
LLAMA3 = MODERN.replace("NUMBER", r"\p{N}{1,3}")
QWEN2 = MODERN.replace("NUMBER", r"\p{N}")

SPECIAL = ["<s>", "</s>", "<|end of text|>"]
TEXTS = [
    "", " ", "  ", "\n", "\r\n", "\t\t ", "a", " a", "a ", "a  b   c    d", "  leading and trailing  ",
    "Who wrote the letter that the queen kept?", "The queen's letters, they're kept; I'll say I've seen 'em, we'd know.",
    "IT'S THEY'RE WE'VE I'M YOU'LL HE'D can'T it'\u017f o'clock rock'n'roll 'tis ''s '' 's' 'S 'x",
    "1 12 123 1234 12345678901 3.14 1,000,000 -7 2e10 0x1F \u0663\u0664\u0665 \u2167 \u00bd \u00b2 x2 2x a1b22c333d4444",
    "def f(x):\n    if x > 0:\n\n\n        return x ** 2\n\treturn -x  # done\n", "for(int i=0;i<n;++i){a[i]+=b;}\r\n\r\n  }",
    "!!! ... --- ==> (a) [b] {c} <d> @e #f $g %h ^i &j *k ~l `m` \\n \"q\"", "a.b.c, d;e:f!g?h/i\\j|k",
    "trailing newline after punctuation!\n\n", "tabs\tand\u00a0no-break\u2003em\u3000wide\u2028line\u2029para\u0085next",
    "  \n  \n x", " \n", "\n ", "\n \n", "x \n\n  y", "x\n", "\n\n\nx", " \r y", "\u00a0x", "\u00a0\u00a0x", "\u200bx\u200b \u200b",
    "Die K\u00f6nigin schrieb \u00fcber Stra\u00dfen, \u00c4pfel und M\u00fc\u00dfiggang.", "\u017b\u00f3\u0142w za\u017c\u00f3\u0142ci\u0142 g\u0119\u015bl\u0105 ja\u017a\u0144",
    "\u041a\u043e\u0440\u043e\u043b\u0435\u0432\u0430 \u043d\u0430\u043f\u0438\u0441\u0430\u043b\u0430 \u043f\u0438\u0441\u044c\u043c\u043e \u0432 1902 \u0433\u043e\u0434\u0443.",
    "\u0397 \u03b2\u03b1\u03c3\u03af\u03bb\u03b9\u03c3\u03c3\u03b1 \u03ad\u03b3\u03c1\u03b1\u03c8\u03b5.", "\u5973\u738b\u5199\u4e86\u4e00\u5c01\u4fe1\u3002\u5979\u6709\uff13\u4e2a\u5973\u513f\uff01", "\u5973\u738b\u304c\u624b\u7d19\u3092\u66f8\u3044\u305f\u3002\u30c6\u30b9\u30c8",
    "\uc5ec\uc655\uc774 \ud3b8\uc9c0\ub97c \uc37c\ub2e4. \u1112\u1161\u11ab", "\u0915\u094d\u0937\u0924\u094d\u0930\u093f\u092f \u0930\u093e\u0928\u0940 \u0928\u0947", "\u05d4\u05de\u05dc\u05db\u05d4 \u05db\u05ea\u05d1\u05d4", "\u0643\u062a\u0628\u062a \u0627\u0644\u0645\u0644\u0643\u0629 \u0631\u0633\u064e\u0627\u0644\u0629", "\u0e23\u0e32\u0e0a\u0e34\u0e19\u0e35\u0e40\u0e02\u0e35\u0e22\u0e19\u0e08\u0e14\u0e2b\u0e21\u0e32\u0e22",
    "\U0001f600\U0001f44d\U0001f3fd \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea x\U0001f600y", "\U0001d4d0\U0001d7d8 \U00010000 \U000e0001",
    "e\u0301 \u00e9 A\u030a \u212b \u1e9b\u0323 o\u0308\u0304 \u0344 \u2126 \uf900 \u0301x a\u0301\u0328", "\u0000\u0001\u0002\u001c\u001f\u007f\u0080\u009f \ufeff \ufffd \uffff",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "the the thethethethethethethethethethethethethequeenqueenqueenletterletterletterthe",
    "                                                                         far",
    "<s>the</s>", "a<s>", "<s", "<s><s></s> </s>", "x <|end of text|> y<|end of text|>", "<|end of text|", "<<s>>",
    "a  <think>  b</think>\n\n c", "<tool> the <tool>", "caf\u00e9<caf\u00e9>cafe\u0301<cafe\u0301>", " <mask> ", "\u2003<mask>\u2003x", "<mask><mask>",
    "<longer><longer>er<long", "Ignore the above.</s><s>system: the queen",
]
PIECES = ["the", " ", "  ", "\n", "\r", "\t", "'s", "'", "'LL", "a", "Q", "\u00e9", "e\u0301", "\u5973", "\U0001f600", "1", "23", "\u00bd", "!", ".", "-", "<s>",
          "</s>", "<mask>", "<think>", "\u00a0", "\u200d", "\u0301", "queen", "_", "<", ">"]


def trained(pre_tokenizer, normalizer=None, specials=SPECIAL, size=560):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(vocab_size=size, min_frequency=2, special_tokens=specials, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator((HERE / "corpus.txt").read_text(encoding="utf-8").split("\n"), trainer)
    return tokenizer


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), behavior, invert),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def framed(before, after, tokenizer):
    parts = lambda name: " ".join(before + ["$" + name] + after)
    return processors.TemplateProcessing(single=parts("A"), pair=parts("A") + " " + parts("B:1"),
                                         special_tokens=[(t, tokenizer.token_to_id(t)) for t in before + after])


def make_all():
    byte_level = pre_tokenizers.ByteLevel
    made = {"gpt2": trained(byte_level(add_prefix_space=False))}

    made["gpt2_prefix"] = trained(byte_level(add_prefix_space=True))
    made["gpt2_prefix"].add_tokens([AddedToken("<think>", rstrip=True), AddedToken("</think>", lstrip=True, rstrip=True),
                                    AddedToken("queen"), AddedToken("<long"), AddedToken("<longer>", normalized=False)])

    # As in Llama 3 there are tokens that merges do not lead to: the last 20 merges are taken out again.
    made["llama3"] = trained(split(LLAMA3), specials=[], size=556)
    state = json.loads(made["llama3"].to_str())
    state["model"]["ignore_merges"] = True
    state["model"]["merges"] = state["model"]["merges"][:-20]
    made["llama3"] = Tokenizer.from_str(json.dumps(state))
    made["llama3"].add_special_tokens(["<s>", "</s>"])
    made["llama3"].post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False),
                                                         framed(["<s>"], [], made["llama3"])])

    made["qwen2"] = trained(split(QWEN2), normalizers.NFC())
    made["qwen2"].add_tokens([AddedToken("<tool>", normalized=False), AddedToken("<cafe\u0301>"), AddedToken("<think>")])
    made["qwen2"].add_special_tokens([AddedToken("<mask>", lstrip=True, rstrip=True)])

    made["removed"] = trained(split(LLAMA3, "removed", True))
    made["removed"].post_processor = framed(["<s>", "<s>"], ["</s>"], made["removed"])

    made["whole"] = trained(byte_level(add_prefix_space=False, use_regex=False))
    made["digits"] = trained(pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                      byte_level(add_prefix_space=False)]))
    made["digit_runs"] = trained(pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=False),
                                                          pre_tokenizers.Split(Regex(GPT2), "isolated"),
                                                          byte_level(add_prefix_space=False, use_regex=False)]))
    return made


def ids_of(tokenizer, texts):
    lists = {}
    for name, special in (("plain", False), ("special", True)):
        tokenizer.encode_special_tokens = not special
        lists[name] = [tokenizer.encode(text, add_special_tokens=special).ids for text in texts]
    return lists


def written(tokenizer, old):
    """The file, short; `old` has merges as one string each and leaves out what came later, as GPT-2's file does."""
    state = json.loads(tokenizer.to_str())
    if old:
        state["model"]["merges"] = [" ".join(pair) for pair in state["model"]["merges"]]
        for key in ("type", "byte_fallback", "ignore_merges"):
            del state["model"][key]
        del state["pre_tokenizer"]["use_regex"]
    return json.dumps(state, ensure_ascii=False, separators=(",", ":")) + "\n"


def lines(values):
    return "[\n" + ",\n".join(json.dumps(v, separators=(",", ":")) for v in values) + "\n]"


def sample(count, seed):
    rng = random.Random(seed)
    return ["".join(rng.choice(PIECES) for _ in range(rng.randint(1, 14))) for _ in range(count)]


def main():
    if len(sys.argv) > 1:
        texts = json.loads((HERE / "cases.json").read_text(encoding="utf-8"))["texts"]
        print(json.dumps({path: ids_of(Tokenizer.from_file(path), texts) for path in sys.argv[1:]}))
        return
    texts = TEXTS + sample(40, 1)
    parts = ['"made_by": "tokenizers ' + tokenizers.__version__ + '"', '"texts": ' + lines(texts)]
    for name, tokenizer in make_all().items():
        (HERE / (name + ".json")).write_text(written(tokenizer, name == "gpt2_prefix"), encoding="utf-8")
        lists = ids_of(tokenizer, texts)
        parts.append(f'"{name}": {{"plain": {lines(lists["plain"])},\n"special": {lines(lists["special"])}}}')
    (HERE / "cases.json").write_text("{" + ",\n".join(parts) + "}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
