"""All benchmarks, one after the other: `make bench`."""

from bench import dialects, graphs, listeners, pictures, polls, production, runs, starts, submits

for benchmark in (starts, runs, graphs, submits, listeners, polls, production, pictures, dialects):
    benchmark.main()
