"""What answers from a published version."""
