"""What callers were told of their writes, and what of it is false once the database is asked. Pure.

Every write has a tag of its own. A caller was told that it took effect, that it did not, or neither; a batch's tags are
told together.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Ledger:
    """Tags by what was told of them."""

    acknowledged: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    batches: list[tuple[str, ...]] = field(default_factory=list)
    """Tags that were written together."""
    strange: list[str] = field(default_factory=list)
    """What a caller saw that it should not have: other people's rows, settings, answers."""

    def expect(self, tags: Iterable[str]) -> None:
        """Writes that are about to be sent: until their callers are told, nobody knows."""
        together = tuple(tags)
        self.unknown.update(together)
        if len(together) > 1:
            self.batches.append(together)

    def acknowledge(self, tags: Iterable[str]) -> None:
        """The callers were told that these took effect."""
        self._move(tags, self.acknowledged)

    def refuse(self, tags: Iterable[str]) -> None:
        """The callers were told that these did not."""
        self._move(tags, self.refused)

    def _move(self, tags: Iterable[str], where: set[str]) -> None:
        for tag in tags:
            self.unknown.discard(tag)
            where.add(tag)

    def faults(self, present: Iterable[str]) -> list[str]:
        """What is false, one sentence each. `present` are the tags in the database, each as often as it is there."""
        counts: dict[str, int] = {}
        for tag in present:
            counts[tag] = counts.get(tag, 0) + 1
        there = counts.keys()
        found = [f"acknowledged and lost: {tag}" for tag in sorted(self.acknowledged - there)]
        found += [f"refused and there: {tag}" for tag in sorted(self.refused & there)]
        found += [f"written {count} times: {tag}" for tag, count in sorted(counts.items()) if count > 1]
        found += [
            f"written by nobody: {tag}" for tag in sorted(there - self.acknowledged - self.refused - self.unknown)
        ]
        for batch in self.batches:
            if 0 < sum(tag in there for tag in batch) < len(batch):
                found.append(f"half a batch: {', '.join(batch)}")
        return found + self.strange
