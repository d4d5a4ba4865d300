"""Configurations of named runs (YAML) and category tables (JSON): data, no code."""
