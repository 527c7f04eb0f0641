"""Reports as text: of a TXT, HTML, PDF or JSONL file, and the sentences of a text."""
