"""Requests that Atelier sends to addresses that callers name: `addresses` judges them, `transport` connects."""
