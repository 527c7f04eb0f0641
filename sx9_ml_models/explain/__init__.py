"""Why a version exists, and what became of an example: answers from the journal, the topics and the registry."""
