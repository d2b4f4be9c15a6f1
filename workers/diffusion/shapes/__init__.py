"""The checkpoint that ships: what it draws (`drawing`), how it was trained (`train`), how it is judged (`judge`)."""
