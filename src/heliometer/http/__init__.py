"""HTTP as all dialects share it: operations as data, routing, bodies, paging, OpenAPI."""
