"""What is kept, and the removal of the rest: a commit first, its parts later."""

from collections.abc import Callable, Iterable, Sequence

from octoscale.checkpoint import attempts
from octoscale.checkpoint.catalogue import listing
from octoscale.checkpoint.layout import Commit, Prefix, best_of, prefix_of
from octoscale.data.storage import Store


def kept(commits: Sequence[Commit], *, keep_last: int, keep_best: bool) -> list[Commit]:
    """Those of `commits` (oldest first) that are to stay."""
    best = best_of(commits) if keep_best else None
    return [*commits[-keep_last:], *([best] if best is not None else [])]


def sweep(store: Store, mine: attempts.Claim, newest: Commit, *, keep_last: int, keep_best: bool) -> None:
    """Forget what the attempt `mine` does not keep beside the commit `newest`, which it has just made.

    Nothing of a later attempt is touched. Of this attempt nothing is on its way: it makes one commit at a time.

    Raises:
        FencedError: a later attempt has begun; nothing is deleted then.
    """
    # After the commit: an attempt that begins from now on sees it. See attempts.py.
    attempts.check_newest(store, mine)
    found = listing(store)
    stay = [*kept(found.commits, keep_last=keep_last, keep_best=keep_best), newest]
    for commit in [*found.commits, *found.fenced]:
        if commit not in stay and commit.attempt <= mine.number:
            store.delete(commit.name)
    named = {commit.prefix for commit in stay}
    _delete_parts(store, lambda prefix: prefix.name not in named and prefix.attempt <= mine.number)
    attempts.sweep_claims(store, mine)


def prune(store: Store, *, keep_last: int, keep_best: bool, dry_run: bool) -> tuple[list[Commit], list[str]]:
    """Forget all but `keep_last` commits and the best; the commits and the prefixes of parts that go.

    Parts that no commit names go too, unless the newest attempt may be about to commit them.
    """
    found = listing(store)
    stay = kept(found.commits, keep_last=keep_last, keep_best=keep_best)
    gone = [commit for commit in [*found.commits, *found.fenced] if commit not in stay]
    named = {commit.prefix for commit in stay}
    newest = max((commit.attempt for commit in found.commits), default=0)
    ruler = attempts.inherited(store)
    newest = max(newest, ruler.number if ruler is not None else 0)
    done = max((commit.step for commit in found.commits if commit.attempt == newest), default=-1)

    def is_orphan(prefix: Prefix) -> bool:
        on_its_way = prefix.attempt > newest or (prefix.attempt == newest and prefix.step > done)
        return prefix.name not in named and not on_its_way

    if dry_run:
        return gone, [prefix.name for prefix in _prefixes(store) if is_orphan(prefix)]
    for commit in gone:
        store.delete(commit.name)
    return gone, _delete_parts(store, is_orphan)


def _delete_parts(store: Store, is_orphan: Callable[[Prefix], bool]) -> list[str]:
    names = [prefix.name for prefix in _prefixes(store) if is_orphan(prefix)]
    for name in names:
        store.delete(name)
    return names


def _prefixes(store: Store) -> Iterable[Prefix]:
    """All places with parts, in order; a local folder's also where a killed process left no whole file."""
    names = store.list("")
    if store.is_local:
        names += [f"{path.name}/" for path in store.local_path().glob("step-*") if path.is_dir()]
    found = {prefix.name: prefix for prefix in map(prefix_of, names) if prefix is not None}
    return [found[name] for name in sorted(found)]
