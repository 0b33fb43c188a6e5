"""Images: where they come from, how a dataset is made of them, and what a network sees of them."""
