"""Orchestrators that call a project: each module needs its own extra, and is imported by nothing else of ours."""
