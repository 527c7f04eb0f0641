"""`sx9 similar`: nearest nodes by the embeddings of `gnn-threat`."""

from __future__ import annotations

from typing import Annotated

import typer

from sx9_ml_models.cli.options import Json, example, new_app

app = new_app()


@app.command(epilog=example("sx9 similar T1059.001 -k 5"))
def similar(
    node: Annotated[str, typer.Argument(help="A technique id (T1059.001) or a STIX id.")],
    k: Annotated[int, typer.Option("-k", min=1, max=200, metavar="K", help="Number of nodes.")] = 10,
    json: Json = False,
) -> None:
    """List the graph nodes that are most similar to a node.

    Similarity is that of the node embeddings which the champion of gnn-threat wrote to Neo4j.
    """
    from streams.settings import load_settings
    from sx9_ml_models import queries, render

    rows = queries.similar(load_settings(), node, k)
    if json:
        render.as_json(rows)
    else:
        render.similar(rows)
