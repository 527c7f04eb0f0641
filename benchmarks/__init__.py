"""Benchmarks: each measures our code and its alternatives in the same run, on the same machine.

ingest     events per second of the ingest path, against Faust, Quix Streams and the bare clients (`make bench`)
train      speed of the training recipes, against the Trainer of Hugging Face
up         time to ready and idle memory of `sx9 up`, against its bars
quality    scores of the models, against simpler models
explainer  whether generated answers hold to their context, against the untuned base
"""
