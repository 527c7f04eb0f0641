"""Serving: versions in memory that answer, and the server around them.

predictors   loads a version from its folder, and nothing else
"""
