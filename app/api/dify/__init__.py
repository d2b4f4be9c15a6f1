"""Dify's workflow API: `wire` knows its field names, `routes` its verbs, `errors` its envelope."""
