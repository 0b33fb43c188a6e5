"""Errors, files, progress, threads, MXNet's set-up: nothing here knows of images or networks, or decides a result."""
