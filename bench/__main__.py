"""All benchmarks, one after the other: `make bench`."""

from bench import listeners, pictures, polls, production, runs, starts

for benchmark in (starts, runs, listeners, polls, production, pictures):
    benchmark.main()
