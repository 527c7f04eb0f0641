"""The records of a journal in a file that name something, without an index: the file is read once.

Only the lines that have the name are decoded, which is a hundred times faster than decoding all. A record that
repeats an earlier one is recognised among them, because both say the same.
"""

from __future__ import annotations

import msgspec

from schemas.exclusions import is_excluded
from schemas.journal import LineageChange, Record
from sx9_ml_models.explain.placed import Placed, new_examples
from transport.partition_file import PartitionFile
from transport.records import decoded

_LINEAGE = b'"lineage"'
"""In a text, its quotation marks would be escaped."""


class SearchedFile:
    """The lineage changes of a journal, and the examples that have a name; see `sx9_ml_models.explain.example`.

    Args:
        file: The journal.
        name: Key, group or id of examples; empty: only lineage changes are looked for.

    Raises:
        Corrupt: The file can't be read, or a line is no message.
    """

    def __init__(self, file: PartitionFile, name: str = "") -> None:
        texts = (_LINEAGE, msgspec.json.encode(name)[1:]) if name else (_LINEAGE,)
        found = list(decoded(file.containing(texts), Record, file.topic, file.partition))
        self._examples = list(new_examples(found, {}))
        self._lineages: dict[str, tuple[int, LineageChange]] = {}
        for message, record in found:
            if isinstance(record, LineageChange):
                self._lineages.setdefault(record.request, (message.offset, record))

    def lineages(self) -> list[tuple[int, LineageChange]]:
        """All lineage changes with their journal offsets, in order."""
        return list(self._lineages.values())

    def examples_of(self, name: str) -> list[Placed]:
        """The examples with a key or a group, including retractions, in order, without what is left out.

        Args:
            name: It ends with the name that was searched for.
        """
        changes = self.lineages()
        exclusions = changes[-1][1].exclusions if changes else ()
        return [
            (offset, example)
            for offset, example in self._examples
            if name in (example.key, example.group) and not is_excluded(example, exclusions)
        ]
