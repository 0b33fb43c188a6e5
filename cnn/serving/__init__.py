"""What answers from a published version: the predictor, scoring of many images, the page and the API."""
