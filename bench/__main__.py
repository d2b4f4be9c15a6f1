"""All benchmarks, one after the other: `make bench`."""

from bench import pictures, production, runs, starts

for benchmark in (starts, runs, production, pictures):
    benchmark.main()
