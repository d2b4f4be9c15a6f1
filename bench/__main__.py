"""All benchmarks, one after the other: `make bench`."""

from bench import pictures, production, runs, starts, submits

for benchmark in (starts, runs, submits, production, pictures):
    benchmark.main()
