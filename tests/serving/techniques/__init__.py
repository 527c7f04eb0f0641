"""Tests of the techniques of a text."""
