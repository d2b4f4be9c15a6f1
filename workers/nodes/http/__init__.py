"""`http-request`: `message` writes the request, `answer` reads what came back, `node` does it for a step."""
