#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes cases.inc: what ArviZ and R's loo make of log-weights that the test can make again bit by bit.

    python3 -m venv env && env/bin/pip install arviz==0.23.4 numpy==2.4.6 scipy==1.17.1
    apt-get install r-base-core r-cran-loo          # R 4.2.2, loo 2.5.1 in Debian 12
    env/bin/python make_cases.py > cases.inc

Log-weights come from SplitMix64 seeded with the number of the case and from additions, multiplications and comparisons
of doubles only, so every language gets the same bits; an exponential variate is von Neumann's (1951), by comparing
uniform ones. Log-weights go to R as bytes.

A line of cases.inc is one case,

    {number, family, size, scale, shift, step,  {k, {12 log-weights}, mean} of ArviZ,  the same of loo},

where log-weights are smoothed and then normalised to Σ e^x = 1 and `mean` is the mean of all of them (so no element can
differ unseen by much). The twelve are those of rank ⌊j (M + 1) / 11⌋, j = 0 … 11, counted from the largest raw
log-weight: the tail of M, evenly, down to the draw below the cut-off; of equal ones the last in the list counts as the
largest. `step` > 0 rounds log-weights down to multiples of it: cases with ties, which are loo's alone (ArviZ takes the
tail strictly above the cut-off). An infinite k says that the tail was not fitted.
"""

import math
import subprocess
import sys
import tempfile
import warnings

warnings.simplefilter("ignore")

import arviz
import numpy as np
import scipy

MASK = (1 << 64) - 1
SIZES = [21, 22, 24, 25, 30, 37, 50, 64, 100, 128, 200, 224, 225, 226, 500, 1000, 2000, 4000]
FAMILIES = [  # (family, scale, shift)
    ("log_normal", 0.125, 0.0),
    ("log_normal", 1.0, 0.0),
    ("log_normal", 3.0, -20000.0),
    ("pareto", 0.125, 0.0),
    ("pareto", 0.5, 7.0),
    ("pareto", 0.75, -300.0),
    ("pareto", 1.0, 0.0),
    ("pareto", 2.0, 0.0),
    ("power", 0.25, 0.0),
    ("power", 1.0, 0.0),
    ("power", 4.0, 100.0),
    ("laplace", 1.0, 0.0),
    ("uniform", 2.0, 0.0),
]
TIED_SIZES = [25, 64, 200, 500, 1000]
TIED = [("log_normal", 1.0, 0.0, 0.125), ("log_normal", 1.0, 0.0, 0.03125), ("pareto", 0.5, 0.0, 0.0625),
        ("laplace", 1.0, 0.0, 0.25), ("laplace", 1.0, 0.0, 1.0), ("uniform", 2.0, 0.0, 0.0078125),
        ("uniform", 2.0, 0.0, 2.0)]


class Words:
    """SplitMix64 (Steele, Lea & Flood 2014)."""

    def __init__(self, seed):
        self.state = seed

    def uniform(self):
        """A multiple of 2^-53 in [0, 1)."""
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        x = self.state
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
        return float((x ^ (x >> 31)) >> 11) * 2.0**-53

    def exponential(self):
        """Runs of descending uniforms: the first of an odd run, plus the number of even runs before it."""
        whole = 0.0
        while True:
            first = last = self.uniform()
            length = 1
            while (after := self.uniform()) < last:
                last = after
                length += 1
            if length % 2 == 1:
                return whole + first
            whole += 1.0


def variate(words, family):
    if family == "log_normal":  # twelve uniforms: variance 1
        total = -6.0
        for _ in range(12):
            total += words.uniform()
        return total
    if family == "pareto":
        return words.exponential()
    if family == "power":
        return -words.exponential()
    if family == "laplace":
        return words.exponential() - words.exponential()
    return words.uniform()


def log_weights(number, family, size, scale, shift, step):
    words = Words(number)
    x = [scale * variate(words, family) + shift for _ in range(size)]
    return np.array([math.floor(v / step) * step for v in x] if step > 0 else x)


def with_loo(cases):
    program = """
      suppressWarnings(suppressPackageStartupMessages(library(loo)))
      args <- commandArgs(trailingOnly = TRUE)
      source <- file(args[1], "rb"); target <- file(args[2], "wb")
      repeat {
        size <- readBin(source, "integer", 1)
        if (length(size) == 0) break
        fit <- suppressWarnings(psis(matrix(readBin(source, "double", size), ncol = 1), r_eff = 1))
        writeBin(c(fit$diagnostics$pareto_k, weights(fit, normalize = TRUE)[, 1]), target)
      }
      close(target)
      cat(as.character(packageVersion("loo")), "and", R.version.string)
    """
    with tempfile.TemporaryDirectory() as folder:
        with open(folder + "/in", "wb") as f:
            for x in cases:
                f.write(np.int32(len(x)).tobytes() + x.tobytes())
        version = subprocess.run(["Rscript", "-e", program, folder + "/in", folder + "/out"], check=True, text=True,
                                 capture_output=True).stdout
        values = np.fromfile(folder + "/out")
    fits = []
    for x in cases:
        fits.append((values[0], values[1:len(x) + 1]))
        values = values[len(x) + 1:]
    return fits, version


def number_text(v):
    return "test::infinity<double>" if math.isinf(v) else f"{v:.13g}"


def fit_text(x, fit):
    k, smoothed = fit
    tail = math.ceil(min(len(x) / 5, 3 * math.sqrt(len(x))))
    down = sorted(range(len(x)), key=lambda i: (x[i], i), reverse=True)
    some = ", ".join(number_text(smoothed[down[j * (tail + 1) // 11]]) for j in range(12))
    return f"{{{number_text(k)}, {{{some}}}, {number_text(math.fsum(smoothed) / len(x))}}}"


def main():
    cases = [(f, n, s, d, 0.0) for n in SIZES for f, s, d in FAMILIES]
    untied = len(cases)
    cases += [(f, n, s, d, step) for n in TIED_SIZES for f, s, d, step in TIED]
    inputs = [log_weights(i, *case) for i, case in enumerate(cases)]
    loo, loo_version = with_loo(inputs)
    print("// SPDX-License-Identifier: Apache-2.0")
    print(f"// Made by make_cases.py with loo {loo_version}; ArviZ {arviz.__version__}, NumPy {np.__version__}, "
          f"SciPy {scipy.__version__}.")
    apart_k = apart_weight = 0.0
    for i, (case, x, from_loo) in enumerate(zip(cases, inputs, loo)):
        if i < untied:
            assert len(set(x)) == len(x)
            smoothed, k = arviz.psislw(x.copy(), reff=1.0)
            from_arviz = (float(k), smoothed)
            if math.isfinite(from_loo[0]):
                apart_k = max(apart_k, abs(from_loo[0] - from_arviz[0]))
                apart_weight = max(apart_weight, np.max(np.abs(smoothed - from_loo[1])))
        else:
            from_arviz = from_loo
        family, size, scale, shift, step = case
        print(f"{{{i}, family::{family}, {size}, {scale}, {shift}, {step},\n {fit_text(x, from_arviz)},\n "
              f"{fit_text(x, from_loo)}}},")
    print(f"ArviZ and loo apart by {apart_k:.1e} in k, {apart_weight:.1e} in a log-weight", file=sys.stderr)


if __name__ == "__main__":
    main()
