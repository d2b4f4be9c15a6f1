"""All benchmarks, one after the other: `make bench`."""

from bench import listeners, pictures, polls, production, runs, starts, submits

for benchmark in (starts, runs, submits, listeners, polls, production, pictures):
    benchmark.main()
