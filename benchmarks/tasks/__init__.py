"""What each model is measured on: a module per task, each with `run(setup, progress) -> rows`."""
