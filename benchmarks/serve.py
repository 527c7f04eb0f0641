"""The server beside the bare model in a loop, and beside a stock `transformers` pipeline behind FastAPI.

python -m benchmarks.serve                     all of it; a few minutes
python -m benchmarks.serve --texts 2048 --swaps 100
python -m benchmarks.serve --texts 512 --speed-only

Each server runs in a process of its own and is asked over HTTP: ours in float32 and in int8, and the pipeline. They
and the bare model take turns, so that a busy machine slows all of them. The time of the processor is that of the
process that answers. The network is that of `minilm` with an untrained head: its speed does not depend on its
weights.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil

MODEL = "distilbert-mitre"
BATCH = 64
LABELS = 14
ROUNDS = 3
SERVERS = ("float32", "int8", "stock")
WORDS = """
    the attacker used a script to run commands on hosts through powershell and windows management instrumentation
    then dumped credentials from memory of the local security authority before moving to other systems with remote
    desktop while files were archived encrypted and sent to a cloud storage account
""".split()  # noqa: SIM905  a list of words is no clearer


def sentences(number: int) -> list[str]:
    """Seeded sentences of 6 to 40 words, as reports have them."""
    rng = random.Random(17)
    return [" ".join(rng.choices(WORDS, k=rng.randint(6, 40))) + "." for _ in range(number)]


def make_versions(output_dir: Path, names: Sequence[str]) -> None:
    """Write versions of `minilm` with a head that was never trained; the first is the champion."""
    import torch

    from schemas.recipes.distilbert import DistilbertConfig
    from schemas.versions import Manifest
    from trainers.bases.resolve import resolve
    from trainers.models.distilbert.head import load_base
    from trainers.models.distilbert.saving import save_version
    from trainers.store import manifest as manifests
    from trainers.store.registry import Registry

    cache = output_dir / "cache"
    base, registry = resolve("minilm", cache), Registry(output_dir / "models")
    labels = tuple(f"tactic-{n:02}" for n in range(LABELS))
    for name in names:
        model = load_base(base.folder, labels, DistilbertConfig())
        model.config.thresholds = dict.fromkeys(labels, 0.5)
        features = model.words.weight.shape[0]
        with registry.draft(MODEL, name) as folder:
            save_version(model, torch.zeros(features + 1, LABELS), 128, base.folder, folder)
            files = manifests.file_hashes(folder)
            manifest = Manifest(
                model=MODEL, version=name, trigger="benchmark", reason="manual", labels=labels, files=files
            )
            manifests.write(folder, manifest)
    registry.promote(MODEL, names[0])


def run_ours(output_dir: Path, port: int, precision: str) -> None:
    """The server, in this process."""
    from serving.server import build, serve
    from serving.settings import load_serve_settings

    logging.basicConfig(level=logging.WARNING)
    folders = {"output_dir": output_dir, "state_dir": output_dir}
    serve(build(load_serve_settings(**folders, port=port, models=MODEL, follow_s=0.01, precision=precision)))


def run_stock(output_dir: Path, port: int) -> None:
    """A stock pipeline behind FastAPI, in this process."""
    import uvicorn
    from fastapi import FastAPI
    from transformers import AutoTokenizer, DistilBertForSequenceClassification, pipeline

    folder = str(output_dir / "models" / MODEL / "v0001")
    logging.disable(logging.WARNING)
    model = DistilBertForSequenceClassification.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    classify = pipeline("text-classification", model=model, tokenizer=tokenizer, top_k=None)
    app = FastAPI()

    @app.get("/readyz")
    def ready() -> str:
        return "ok"

    @app.post("/v1/classify")
    def answer(request: dict[str, Any]) -> Any:
        return classify(request["texts"], truncation=True, max_length=128, function_to_apply="sigmoid")

    uvicorn.run(app, port=port, log_level="error", access_log=False)


@contextlib.contextmanager
def server(kind: str, output_dir: Path) -> Iterator[tuple[httpx.Client, psutil.Process]]:
    """A server in a child process, once it is ready."""
    from streams.local.machine import free_port

    port = free_port(set())
    command = [
        sys.executable,
        "-m",
        "benchmarks.serve",
        "--run",
        kind,
        "--folder",
        str(output_dir),
        "--port",
        str(port),
    ]
    child = subprocess.Popen(command)
    limits = httpx.Limits(max_connections=200, max_keepalive_connections=200)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120, limits=limits) as client:
            while child.poll() is None:
                with contextlib.suppress(httpx.TransportError):
                    if client.get("/readyz").status_code == 200:
                        break
                time.sleep(0.2)
            yield client, psutil.Process(child.pid)
    finally:
        child.terminate()
        child.wait()


def texts_per_second(client: httpx.Client, process: psutil.Process, texts: Sequence[str]) -> tuple[float, float]:
    """Texts that a server answers per second and per second of the processor, asked in batches by two clients."""
    batches = [list(texts[i : i + BATCH]) for i in range(0, len(texts), BATCH)]

    def ask(batch: list[str]) -> None:
        client.post("/v1/classify", json={"texts": batch, "sentences": False}).raise_for_status()

    started_s, before_s = time.perf_counter(), sum(process.cpu_times()[:2])
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(ask, batches))
    taken_s = time.perf_counter() - started_s
    return len(texts) / taken_s, len(texts) / (sum(process.cpu_times()[:2]) - before_s)


def bare_texts_per_second(version: Any, texts: Sequence[str]) -> tuple[float, float]:
    """The same with the bare model in a loop, in this process."""
    started_s, before_s = time.perf_counter(), time.process_time()
    for i in range(0, len(texts), BATCH):
        version.predict(texts[i : i + BATCH])
    return len(texts) / (time.perf_counter() - started_s), len(texts) / (time.process_time() - before_s)


def latencies_ms(client: httpx.Client, texts: Sequence[str], clients: int, per_second: float) -> dict[str, float]:
    """Percentiles of requests with one text each, that arrive evenly at a rate, from so many clients."""
    started_s = time.perf_counter() + 0.1

    def ask(number: int) -> float:
        due_s = started_s + number / per_second
        time.sleep(max(0.0, due_s - time.perf_counter()))
        begun_s = time.perf_counter()
        client.post("/v1/classify", json={"texts": [texts[number]], "sentences": False}).raise_for_status()
        return (time.perf_counter() - begun_s) * 1000

    with ThreadPoolExecutor(clients) as pool:
        found = sorted(pool.map(ask, range(len(texts))))
    return {"p50": statistics.median(found), "p99": found[int(len(found) * 0.99)]}


def swaps_under_load(
    client: httpx.Client, process: psutil.Process, output_dir: Path, swaps: int
) -> dict[str, float | int]:
    """Promote versions in turns while four clients ask: failed and mixed answers, and growth of the memory."""
    from trainers.store.registry import Registry

    registry, stop, texts = Registry(output_dir / "models"), threading.Event(), sentences(8)
    failed, answered = 0, 0

    def ask() -> None:
        nonlocal failed, answered
        while not stop.is_set():
            response = client.post("/v1/classify", json={"texts": texts, "sentences": False})
            failed, answered = failed + (response.status_code != 200), answered + 1

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    memory_mb = 0.0
    started_s = time.perf_counter()
    for number in range(swaps):
        name = f"v000{number % 2 + 1}"
        registry.promote(MODEL, name)
        while client.get("/v1/models").json()["models"][0]["version"] != name:
            time.sleep(0.01)
        if number == swaps // 4:
            memory_mb = process.memory_info().rss / 2**20
    seconds = time.perf_counter() - started_s
    stop.set()
    for thread in threads:
        thread.join()
    grown_mb = process.memory_info().rss / 2**20 - memory_mb
    return {
        "swaps": swaps,
        "seconds": seconds,
        "answered": answered,
        "failed": failed,
        "memory grown, MB": grown_mb,
    }


def measure(texts: Sequence[str], swaps: int, output_dir: Path, speed_only: bool) -> dict[str, Any]:
    """Everything that the table shows."""
    import torch

    from serving.predictors import load

    make_versions(output_dir, ("v0001", "v0002"))
    torch.set_num_threads(psutil.cpu_count() or 1)
    version = load(output_dir / "models" / MODEL)
    found: dict[str, list[tuple[float, float]]] = {"bare model": []}
    with contextlib.ExitStack() as stack:
        servers = {kind: stack.enter_context(server(kind, output_dir)) for kind in SERVERS}
        for client, process in servers.values():
            texts_per_second(client, process, texts[:BATCH])
        for number in range(ROUNDS):
            found["bare model"].append(bare_texts_per_second(version, texts))
            for kind, (client, process) in servers.items():
                some = texts[: len(texts) // 4] if kind == "stock" else texts
                found.setdefault(kind, []).append(texts_per_second(client, process, some))
            said = ", ".join(f"{kind} {each[-1][0]:.0f}" for kind, each in found.items())
            print(f"round {number + 1}, texts/s: {said}", file=sys.stderr)
        client, process = servers["float32"]
        rest = {} if speed_only else latency_and_swaps(client, process, texts, swaps, output_dir)
    return {
        "texts/s": {kind: statistics.median(wall for wall, _ in each) for kind, each in found.items()},
        "server / bare": ratios(found, "float32", "bare model"),
        "server / stock": ratios(found, "float32", "stock"),
        "int8 / float32": ratios(found, "int8", "float32"),
        "int8 / stock": ratios(found, "int8", "stock"),
        **rest,
    }


def ratios(found: dict[str, list[tuple[float, float]]], ours: str, other: str) -> dict[str, float]:
    """Median over the rounds of the ratio of two sides, by the clock and by the time of the processor."""
    pairs = list(zip(found[ours], found[other], strict=True))
    by = ("clock", "processor")
    return {name: statistics.median(a[i] / b[i] for a, b in pairs) for i, name in enumerate(by)}


def latency_and_swaps(
    client: httpx.Client, process: psutil.Process, texts: Sequence[str], swaps: int, output_dir: Path
) -> dict[str, Any]:
    """Latencies with 100 clients, and swaps under load."""
    one_by_one = latencies_ms(client, texts, 100, 1e9)
    capacity = len(texts) / (max(one_by_one["p50"], 1.0) * len(texts) / 100 / 1000)
    half = latencies_ms(client, texts[: len(texts) // 2], 100, capacity / 2)
    swapped = swaps_under_load(client, process, output_dir, swaps)
    return {"100 clients, ms": one_by_one, "half load, ms": half, "swaps": swapped}


def main() -> None:
    """Measure, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--texts", type=int, default=2_048, help="texts of each round")
    parser.add_argument("--swaps", type=int, default=1_000, help="versions promoted under load")
    parser.add_argument("--speed-only", action="store_true", help="leave out latency and swaps, which take long")
    parser.add_argument("--run", choices=SERVERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.run:
        if chosen.run == "stock":
            run_stock(chosen.folder, chosen.port)
        else:
            run_ours(chosen.folder, chosen.port, chosen.run)
        return
    with tempfile.TemporaryDirectory() as folder:
        found = measure(sentences(chosen.texts), chosen.swaps, Path(folder), chosen.speed_only)
        print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
