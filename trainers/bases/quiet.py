"""Run `transformers` without its progress bars and reports, and load models one at a time."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

_LOADING = threading.RLock()


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Turn off the progress bars and warnings of `transformers` within a block; it shows them for every file."""
    from transformers.utils import logging as transformers_logging

    verbosity = transformers_logging.get_verbosity()
    shows_bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if shows_bars:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def loading_transformers() -> Iterator[None]:
    """Load a model of `transformers` within a block: quietly, and not while another thread loads one.

    While `from_pretrained` runs, it replaces `PreTrainedModel.tie_weights` for all threads. If two threads overlap,
    the replacement stays, and all later models of the process miss their tied weights.
    """
    with _LOADING, quiet_transformers():
        yield
