"""Series and measurements: the model, the index of series, queries and reports."""
