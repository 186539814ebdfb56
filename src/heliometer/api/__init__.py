"""The published APIs: each parses its requests into the model, and renders the model back."""
