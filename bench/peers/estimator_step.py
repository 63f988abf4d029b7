#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One step of the score-space estimator in PyTorch, as one would write it there: no loop over queries or samples.

Given scores [B x n] of a selector and log-likelihoods [B x m] of a reader:
  draw      m rankings of K of the n documents a query by Gumbel-top-K, and their Plackett-Luce log p(z), which autograd
            records
  weigh     self-normalised weights, evidence, bound, effective sample size, largest weight, entropy; leave-one-out
            coefficients of the expected log-likelihood
  gradient  of sum_i c_i log p(z_i) on the scores, by autograd
Prints one line of JSON for each phase and one for the whole, in ms.

Variants of the whole (--mode): eager; compiled, torch.compile of all but the last call of autograd, which runs the
compiled backward pass; tuned, the same with mode="max-autotune", which also replays CUDA graphs; graph, the compiled
step captured in one CUDA graph and replayed. Two ways of writing log p(z) are known (--log-prob): cumulative
(torch.logcumsumexp over the picks) and picks (a loop over the K picks).
"""
import argparse
import json
import math
import statistics
import sys
import time

import torch


def gumbel_top_k(scores, samples, select):
    """Rankings [B x m x K]: the K largest of score + Gumbel noise, in descending order."""
    noise = torch.empty(scores.shape[0], samples, scores.shape[1], dtype=scores.dtype, device=scores.device)
    keys = scores.unsqueeze(1) - noise.exponential_().log()
    return keys.topk(select, dim=-1).indices


def log_mass_left(scores, rankings):
    """log of the mass that no pick takes, [B x m x 1]."""
    everywhere = scores.unsqueeze(1).expand(-1, rankings.shape[1], -1)
    return everywhere.scatter(-1, rankings, float("-inf")).logsumexp(-1, keepdim=True)


def picked_scores(scores, rankings):
    return scores.gather(1, rankings.flatten(1)).view(rankings.shape)


def log_prob_cumulative(scores, rankings):
    """log p(z) [B x m]; the denominators are summed from the last pick backwards, so nothing cancels."""
    picked = picked_scores(scores, rankings)
    terms = torch.cat([log_mass_left(scores, rankings), picked.flip(-1)], dim=-1)
    return picked.sum(-1) - terms.logcumsumexp(-1)[..., 1:].sum(-1)


def log_prob_picks(scores, rankings):
    """The same, one pick after the other."""
    picked = picked_scores(scores, rankings)
    mass = log_mass_left(scores, rankings).squeeze(-1)
    total = torch.zeros_like(mass)
    for t in reversed(range(rankings.shape[-1])):
        mass = torch.logaddexp(mass, picked[..., t])
        total = total + picked[..., t] - mass
    return total


LOG_PROB = {"cumulative": log_prob_cumulative, "picks": log_prob_picks}


def weigh(log_likelihood):
    """Weights and what they say, and leave-one-out coefficients divided by the number of queries."""
    queries, samples = log_likelihood.shape
    weights = log_likelihood.softmax(-1)
    total = log_likelihood.logsumexp(-1)
    log_evidence = total - math.log(samples)
    bound = log_likelihood.mean(-1)
    effective_sample_size = 1 / weights.square().sum(-1)
    largest_weight = weights.amax(-1)
    entropy = total - (weights * log_likelihood).sum(-1)
    # x_i - mean of the others = (x_i - mean) m / (m - 1)
    advantage = (log_likelihood - bound.unsqueeze(-1)) * (samples / (samples - 1))
    coefficients = advantage / (samples * queries)
    return weights, log_evidence, bound, effective_sample_size, largest_weight, entropy, coefficients


class Step:
    """The phases and the whole, in one mode."""

    def __init__(self, options, mode):
        def compiled(f):
            if mode == "eager":
                return f
            return torch.compile(f, dynamic=False, mode="max-autotune" if mode == "tuned" else None)

        log_prob = LOG_PROB[options.log_prob]
        samples, select = options.samples, options.select

        def draw(scores):
            rankings = gumbel_top_k(scores.detach(), samples, select)
            return rankings, log_prob(scores, rankings)

        def objective(scores, log_likelihood):
            rankings, log_p = draw(scores)
            found = weigh(log_likelihood)
            return (found[-1] * log_p).sum(), rankings, log_p.detach(), found

        self.draw = compiled(draw)
        self.weigh = compiled(weigh)
        self.objective = compiled(objective)
        self.tuned = mode == "tuned"

    def whole(self, scores, log_likelihood):
        if self.tuned:
            torch.compiler.cudagraph_mark_step_begin()
        value, rankings, log_p, found = self.objective(scores, log_likelihood)
        (gradient,) = torch.autograd.grad(value, scores)
        return rankings, log_p, found, gradient


def inputs(options, device):
    dtype = {"float": torch.float32, "double": torch.float64}[options.dtype]
    generator = torch.Generator().manual_seed(1)
    scores = torch.randn(options.queries, options.documents, generator=generator, dtype=dtype)
    log_likelihood = -5 * torch.rand(options.queries, options.samples, generator=generator, dtype=dtype)
    return scores.to(device).requires_grad_(), log_likelihood.to(device)


def times(f, device, repeat, prepare=lambda: None):
    """(ms, ms of processor time of all threads) of each of `repeat` calls, after warm-up; on a GPU the first alone, by
    events. prepare() is not timed, and gives f its argument."""
    for _ in range(5):
        f(prepare())
    found = []
    if device.type == "cuda":
        torch.cuda.synchronize()
        for _ in range(repeat):
            given = prepare()
            start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            f(given)
            stop.record()
            stop.synchronize()
            found.append((start.elapsed_time(stop), 0.0))
    else:
        for _ in range(repeat):
            given = prepare()
            start, start_cpu = time.perf_counter(), time.process_time()
            f(given)
            found.append((1e3 * (time.perf_counter() - start), 1e3 * (time.process_time() - start_cpu)))
    return found


def measure(options, mode, device):
    """Yields (phase, its times)."""
    torch._dynamo.reset()
    scores, log_likelihood = inputs(options, device)
    step = Step(options, "compiled" if mode == "graph" else mode)
    if mode == "graph":
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            for _ in range(5):
                step.whole(scores, log_likelihood)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=side):
            kept = step.whole(scores, log_likelihood)
        yield "whole", times(lambda _: graph.replay(), device, options.repeat)
        del kept
        return
    if not step.tuned:  # replayed graphs overwrite what an earlier phase handed over
        coefficients = step.weigh(log_likelihood)[-1].clone()
        yield "draw", times(lambda _: step.draw(scores), device, options.repeat)
        yield "weigh", times(lambda _: step.weigh(log_likelihood), device, options.repeat)
        yield "gradient", times(
            lambda log_p: torch.autograd.grad((coefficients * log_p).sum(), scores), device, options.repeat,
            prepare=lambda: step.draw(scores)[1])
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    yield "whole", times(lambda _: step.whole(scores, log_likelihood), device, options.repeat)


def verify(path):
    """Compares with what bench_estimator_step --numbers wrote: given the same rankings, the same everything."""
    with open(path, encoding="utf-8") as file:
        read = json.load(file)
    queries, documents, samples, select = read.pop("shape")
    shapes = {"scores": (queries, documents), "gradient": (queries, documents), "rankings": (queries, samples, select),
              "log_likelihood": (queries, samples), "log_prob": (queries, samples), "weights": (queries, samples),
              "coefficients": (queries, samples)}
    ours = {name: torch.tensor(values, dtype=torch.int64 if name == "rankings" else torch.float64)
            .view(shapes.get(name, (queries,))) for name, values in read.items()}
    worst = 0.0

    def compare(name, theirs, scale=1.0):
        nonlocal worst
        error = ((theirs.detach() - ours[name]).abs() / (scale + ours[name].abs())).max().item()
        worst = max(worst, error)
        print(f"{name:24} largest error {error:.2e}")

    scores = ours["scores"].requires_grad_()
    names = ["weights", "log_evidence", "bound", "effective_sample_size", "largest_weight", "entropy"]
    for way, log_prob in LOG_PROB.items():
        log_p = log_prob(scores, ours["rankings"])
        *found, coefficients = weigh(ours["log_likelihood"])
        (gradient,) = torch.autograd.grad((coefficients * log_p).sum(), scores)
        print(f"log p by {way}")
        compare("log_prob", log_p)
        for name, value in zip(names, found):
            compare(name, value)
        # Of the size of 1/queries: relative to the largest of them.
        compare("coefficients", coefficients, scale=ours["coefficients"].abs().max().item())
        compare("gradient", gradient, scale=ours["gradient"].abs().max().item())
    if worst > 1e-5:
        sys.exit(f"they differ: {worst:.2e} > 1e-5")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--queries", type=int, default=4096)
    parser.add_argument("--documents", type=int, default=20)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--select", type=int, default=5)
    parser.add_argument("--dtype", default="float", choices=["float", "double"])
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: as PyTorch chooses")
    parser.add_argument("--mode", nargs="+", default=["eager", "compiled"],
                        choices=["eager", "compiled", "tuned", "graph"])
    parser.add_argument("--log-prob", nargs="+", default=list(LOG_PROB), choices=list(LOG_PROB))
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--verify", metavar="FILE", help="compare with the numbers of bench_estimator_step --numbers")
    options = parser.parse_args()
    if options.threads > 0:
        torch.set_num_threads(options.threads)
    if options.verify:
        verify(options.verify)
        return
    device = torch.device(options.device)
    ways = options.log_prob
    for options.log_prob in ways:
        for mode in options.mode:
            for phase, found in measure(options, mode, device):
                line = {"peer": "pytorch", "version": torch.__version__, "mode": mode, "log_prob": options.log_prob,
                        "phase": phase, "device": options.device, "queries": options.queries,
                        "documents": options.documents, "samples": options.samples, "select": options.select,
                        "dtype": options.dtype, "threads": torch.get_num_threads(),
                        "median_ms": statistics.median(ms for ms, _ in found), "min_ms": min(ms for ms, _ in found),
                        "median_cpu_ms": statistics.median(cpu for _, cpu in found)}
                if device.type == "cuda" and phase == "whole":
                    line["peak_bytes"] = torch.cuda.max_memory_allocated()
                print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
