"""Errors, files, progress, threads, MXNet's set-up: how work is done, and not what comes out of it."""
