"""The commands of ``python -m cnn``, a module for each."""
