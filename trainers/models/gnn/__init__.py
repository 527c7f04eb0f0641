"""`gnn-threat`: which techniques go with an actor, a tool or a mitigation, and the tactics of a technique.

    examples.py ──> graph.py ──> neighbourhood.py ──> view.py ──> network.py ──> scores
    (a dataset)     nodes and    the whole graph,     tensors,    R-GCN, paths,
                    links        or a sample          batches     attention

recipe.py           trains a version: graph, network, fit, evaluation, files
  text_features.py  vectors of node texts    shape.py         sizes of the network
  objective.py      the loss                 training.py      the plan of a run
  evaluation.py     scores of a network      baselines.py     scores of simple methods
  saving.py         files of a version       embedding_plot.py, card.py
predict.py          answers for sources that the version has not seen; scoring.py is shared with evaluation
graph_export.py     examples of a `threat_ontology.json`
terms.py            its graph, where it has only terms and relations
config.py           the configuration; imports no torch
"""
