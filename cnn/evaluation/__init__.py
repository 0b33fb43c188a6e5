"""Evaluation: a trained network's predictions, metrics, figures, reports, and networks side by side."""
