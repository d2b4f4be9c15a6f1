"""Requests that Atelier sends to addresses that callers name: `reach` says how far, `transport` connects."""
