"""Training: recipes, inputs and batches, the loop, checkpoints. `transfer` and `scratch` compose all of it."""
