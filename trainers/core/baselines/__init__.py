"""Simple models that are trained on the same examples as a version, to compare with.

tfidf   linear models on TF-IDF features of a text
"""
