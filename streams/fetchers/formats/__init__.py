"""Formats of feeds, parsed within limits: STIX bundles and objects, and YAML."""
