"""Tests of answers with evidence."""
