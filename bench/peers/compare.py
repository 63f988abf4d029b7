#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times dro's step of the estimator and the same step in PyTorch side by side, and prints tables in Markdown.

  compare.py --bench build/bench/bench_estimator_step                    2 CPU threads and 1
  compare.py --bench build/bench/bench_cuda_step --device cuda           a GPU

Both programs run in turns, --rounds times; a figure is the median over the rounds of the medians of each. PyTorch's is
that of the faster of its two ways of writing log p(z). Run it with the Python that has PyTorch.
"""
import argparse
import collections
import json
import os
import platform
import re
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
NAME = re.compile(r"step/(?P<backend>[^/]+)/(?P<dtype>\w+)/queries:(?P<queries>\d+)/documents:(?P<documents>\d+)"
                  r"/samples:(?P<samples>\d+)/select:(?P<select>\d+)(?:/threads:(?P<threads>\d+))?/(?P<phase>\w+)")
PHASES = ["draw", "weigh", "gradient", "whole"]
MILLISECONDS = {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "s": 1e3}

Case = collections.namedtuple("Case", "dtype queries documents samples select threads")


def run(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr[-4000:]}")
    return done.stdout


def ours(options, pattern, repetitions):
    """{(case, backend, phase): median ms}, and the counters of each."""
    output = json.loads(run([options.bench, f"--benchmark_filter={pattern}", "--benchmark_format=json",
                             f"--benchmark_repetitions={repetitions}", f"--benchmark_min_time={options.min_time}",
                             "--benchmark_enable_random_interleaving=true",
                             "--benchmark_report_aggregates_only=true"]))
    found, counters = {}, {}
    for entry in output["benchmarks"]:
        match = NAME.match(entry["name"])
        if match is None or entry.get("aggregate_name") != "median":
            continue
        case = Case(match["dtype"], *(int(match[key] or 0) for key in Case._fields[1:]))
        key = case, match["backend"], match["phase"]
        found[key] = entry["cpu_time" if options.cpu_time else "real_time"] * MILLISECONDS[entry["time_unit"]]
        counters[key] = {name: value for name, value in entry.items() if name.endswith(("_us", "_bytes"))}
    return found, counters


def theirs(options, case):
    """{(mode, log_prob, phase): median ms}"""
    modes = ["eager", "compiled"] + (["tuned", "graph"] if options.device == "cuda" else [])
    output = run([sys.executable, os.path.join(HERE, "estimator_step.py"), "--device", options.device, "--mode", *modes,
                  "--dtype", case.dtype, "--threads", str(case.threads), "--repeat", str(options.repeat)] +
                 [text for name in ("queries", "documents", "samples", "select")
                  for text in (f"--{name}", str(getattr(case, name)))])
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    figure = "median_cpu_ms" if options.cpu_time else "median_ms"
    return {(line["mode"], line["log_prob"], line["phase"]): line[figure] for line in lines}


def middle(rounds):
    """Median over rounds, key by key."""
    return {key: statistics.median(r[key] for r in rounds if key in r) for key in rounds[0]}


def faster_way(times):
    """{(mode, phase): ms} of the way of writing log p(z) with the faster whole, mode by mode."""
    best = {}
    for mode in dict.fromkeys(mode for mode, _, _ in times):
        way = min((way for m, way, phase in times if m == mode and phase == "whole"),
                  key=lambda way, mode=mode: times[mode, way, "whole"])
        best.update({(mode, phase): ms for (m, w, phase), ms in times.items() if (m, w) == (mode, way)})
    return best


def milliseconds(ms):
    return f"{ms:.3f}" if ms < 10 else f"{ms:.1f}"


def print_table(header, rows):
    print("| " + " | ".join(header) + " |")
    print("|" + " --- |" * len(header))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def title(case):
    threads = f", {case.threads} thread{'s' if case.threads > 1 else ''}" if case.threads else ""
    return (f"B = {case.queries:,}, n = {case.documents}, m = {case.samples}, K = {case.select}, "
            f"{case.dtype}{threads}")


def print_against_pytorch(case, dro, pytorch):
    modes = list(dict.fromkeys(mode for mode, _ in pytorch))
    rows = []
    for phase in PHASES:
        cells = [phase, milliseconds(dro[phase])]
        for mode in modes:
            ms = pytorch.get((mode, phase))
            cells.append("–" if ms is None else f"{milliseconds(ms)} ({ms / dro[phase]:.1f}×)")
        rows.append(cells)
    print(f"**{title(case)}**; ms\n")
    print_table(["phase", "dro"] + [f"PyTorch {mode}" for mode in modes], rows)


def print_backends(found, case, backends):
    rows = [[backend] + [milliseconds(found[case, backend, phase]) for phase in PHASES] +
            [f"{found[case, backend, 'whole'] / found[case, backends[0], 'whole']:.2f}"] for backend in backends]
    print(f"**{title(case)}**, every backend; ms, and the whole over that of {backends[0]}\n")
    print_table(["backend"] + PHASES + ["ratio"], rows)


def print_counters(case, counters):
    print(f"**{title(case)}**, the whole:")
    for name, value in sorted(counters.items()):
        text = f"{value / 2**20:.1f} MiB" if name.endswith("_bytes") else f"{value:.1f} µs"
        print(f"- {name.rsplit('_', 1)[0].replace('_', ' ')}: {text}")
    print()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", required=True, help="bench_estimator_step, or bench_cuda_step")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--filter", default="", help="regular expression on the shapes, as queries:4096/documents:20/")
    parser.add_argument("--dtype", nargs="+", default=["float", "double"])
    parser.add_argument("--threads", nargs="+", type=int, default=[2, 1])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=20, help="calls of PyTorch in a round")
    parser.add_argument("--min-time", type=float, default=0.2, help="seconds of each of dro's repetitions")
    parser.add_argument("--cpu-time", action="store_true",
                        help="processor time of all threads, where a CPU is busy with other things as well; only with "
                             "--threads 1, since PyTorch's threads wait for each other spinning")
    parser.add_argument("--backends", action="store_true", help="also compare dro's backends with each other")
    options = parser.parse_args()
    if options.cpu_time and (options.device == "cuda" or options.threads != [1]):
        parser.error("--cpu-time needs --device cpu and --threads 1")

    backend = "cuda" if options.device == "cuda" else "raw"
    listed = [NAME.match(line) for line in run([options.bench, "--benchmark_list_tests"]).splitlines()]
    cases = list(dict.fromkeys(
        Case(match["dtype"], *(int(match[key] or 0) for key in Case._fields[1:]))
        for match in listed
        if match and match["backend"] == backend and match["dtype"] in options.dtype
        and re.search(options.filter, match[0]) and (not match["threads"] or int(match["threads"]) in options.threads)))
    print(f"{platform.platform()}; medians over {options.rounds} rounds\n")
    for case in cases:
        threads = f"/threads:{case.threads}" if case.threads else ""
        shape = (f"/{case.dtype}/queries:{case.queries}/documents:{case.documents}/samples:{case.samples}"
                 f"/select:{case.select}{threads}/")
        dro_rounds, pytorch_rounds, counters = [], [], {}
        for _ in range(options.rounds):
            found, counters = ours(options, f"step/{backend}{shape}", 5)
            dro_rounds.append(found)
            pytorch_rounds.append(theirs(options, case))
        dro = middle(dro_rounds)
        print_against_pytorch(case, {phase: dro[case, backend, phase] for phase in PHASES},
                              faster_way(middle(pytorch_rounds)))
        if counters.get((case, backend, "whole")):
            print_counters(case, counters[case, backend, "whole"])
        if options.backends:
            found, _ = ours(options, f"step/.*{shape}", 5 * options.rounds)
            print_backends(found, case, list(dict.fromkeys(match["backend"] for match in listed if match)))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
