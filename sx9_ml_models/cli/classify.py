"""`sx9 classify`: the techniques, tactics and severity of a report."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from sx9_ml_models.cli.options import Json, example, new_app

app = new_app()


@app.command(epilog=example("sx9 classify report.pdf --navigator layer.json"))
def classify(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A TXT, HTML, PDF or JSONL file; - for standard input.")
    ],
    json: Json = False,
    stix: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a STIX 2.1 bundle to this file.")] = None,
    navigator: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a layer of the ATT&CK Navigator to this file.")
    ] = None,
    content: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Read examples from this folder of threat content."),
    ] = None,
) -> None:
    """Say which techniques, tactics and severity a report is about, and which sentences say so.

    A technique is said where the nearest examples are near enough; each rests on examples that are shown. A
    severity is looked up where the text has a CVSS vector, a score or a known CVE, and predicted where not.
    """
    from serving.reports.read import read_report
    from serving.share import as_navigator_layer, as_stix
    from streams.settings import load_settings
    from sx9_ml_models import classifying, render

    texts = read_report(file, sys.stdin.buffer.read() if file == "-" else _bytes(file))
    with classifying.report_classifier(load_settings(), content) as classifier:
        reports = [classifier.classify(text) for text in texts]
    if stix is not None:
        _write(stix, as_stix(reports, int(time.time() * 1000)))
    if navigator is not None:
        _write(navigator, as_navigator_layer(reports, Path(file).name))
    if json:
        render.as_json([classifying.as_plain(report) for report in reports])
    else:
        for report in reports:
            classifying.show(report)


def _write(path: Path, document: dict[str, Any]) -> None:
    import msgspec

    from transport.files import write_atomically

    write_atomically(path, msgspec.json.format(msgspec.json.encode(document)))
    print(f"sx9: written: {path}", file=sys.stderr)


def _bytes(file: str) -> bytes:
    from schemas.errors import BadConfiguration
    from serving.reports.read import MAX_BYTES

    try:
        with Path(file).open("rb") as source:
            return source.read(MAX_BYTES + 1)  # one more than the limit, which is then seen
    except OSError as error:
        raise BadConfiguration(
            f"{file} can't be read ({error.strerror}): give a file, or - for standard input"
        ) from error
