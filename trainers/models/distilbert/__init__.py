"""`distilbert-mitre`: predicts the tactics and the severity of a text.

recipe.py          trains a version, read from top to bottom
  head.py            loads the base or the parent; adds and drops labels of the head
  tokenization.py    token ids; long texts are split into chunks
  hidden_states.py   frozen layers, computed once; trainable layers
  text_regression.py the logistic regression on words, fitted by L-BFGS
  objective.py       targets, with those of the parent, and the loss
  evaluation.py      logits, cross-fitted calibration, scores of each task
  calibration.py     Platt scaling, temperature, thresholds
  saving.py          the files of a version; the calibration becomes part of the weights
network.py         the network; every version has a copy of this file
labels.py          labels of the two tasks
config.py          the configuration
predict.py         loads a version and classifies texts
card.py            the introduction of a version's card
onnx_export.py     writes a version as ONNX
"""
