"""Tests of the DSL."""
