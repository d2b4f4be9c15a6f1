"""All benchmarks, one after the other: `make bench`."""

from bench import pictures, runs, starts

for benchmark in (starts, runs, pictures):
    benchmark.main()
