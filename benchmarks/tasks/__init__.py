"""The tasks of `benchmarks.quality`: one module per task, each with `run(setup, progress) -> rows`."""
