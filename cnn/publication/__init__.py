"""Publication: model versions on disk, which of them is the champion, manifests, model cards, exported networks."""
