"""Networks: their layers, their pretrained weights, what their parameters start from, how they run."""
