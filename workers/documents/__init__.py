"""The text of documents. Strangers wrote them, so a child process with limits reads them: see `reader`."""
