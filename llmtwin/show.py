"""Shows people what commands found: tables, bars and lines. It decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from llmtwin.edge.outbox import Pushed
    from llmtwin.edge.results import Collected
    from llmtwin.models import tune as tuning
    from llmtwin.primary.nearness import Nearness
    from llmtwin.primary.trying import Tried
    from llmtwin.records import Answer, Card
    from llmtwin.twins.audit import Audit, Found
    from llmtwin.twins.gate import SoFar
    from llmtwin.twins.model.discrepancy import Discrepancy, Estimate

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


@contextmanager
def tuning_bar(title: str) -> Iterator[Callable[[tuning.Progress], None]]:
    """A bar over the epochs of a run, which may end before the last."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[said]}"),
        TextColumn("at most"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(title, total=None, said="loading the base")

        def report(progress: tuning.Progress) -> None:
            speed = f"{progress.tokens_per_s:.0f} tokens/s"
            said = f"loss {progress.loss:.3f}  recall {progress.recall:.0%}  {speed}"
            epochs = progress.epoch - 1 + progress.share
            bar.update(task, completed=epochs, total=progress.epochs_max, said=said)

        yield report


def counted(found: Collected) -> str:
    """What was collected, in words."""
    facts = f"{found.facts} facts, {found.private} private ({found.sealed} of them sealed)"
    told = (
        f"{found.documents} new or changed documents" if found.documents else "",
        facts if found.facts else "",
        f"{found.prompts} new prompts",
    )
    return ", ".join(filter(None, told))


def show_pushed(pushed: Pushed) -> None:
    """What was sent, what the server refused, and what still waits."""
    for refused in pushed.refused:
        err.print(
            f"the server refused {refused.kind} {refused.id}: {refused.reason}", style="red", markup=False
        )
    out.print(f"{pushed.sent} sent, {pushed.left} waiting")
    if pushed.error is not None:
        err.print(f"not sent yet: {pushed.error}", style="yellow", markup=False)


def show_card(card: Card) -> None:
    """A version's report card."""
    table = Table(title=f"{card.twin}@{card.version}", caption="\n".join(card.notes) or None)
    table.add_column("figure")
    table.add_column("value", justify="right")
    for figure, value in card.figures.items():
        table.add_row(figure, f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}")
    out.print(table)


def show_audit(found: Audit) -> None:
    """What each attack found, beside the base and chance, and what that means."""
    table = Table(title="attacks", caption="\n".join(found.notes) or None)
    for name in ("attack", "adversary", "found", "items", "base", "chance"):
        words = name in ("attack", "adversary")
        table.add_column(name, justify="left" if words else "right", no_wrap=name == "attack")
    for one in found.found:
        table.add_row(*_attack(one))
    out.print(table)


def _attack(one: Found) -> tuple[str, ...]:
    twin = one.twin
    return (
        f"{'sealed ' if one.sealed else ''}{one.name}",
        one.adversary,
        f"{twin.value:.3g} ({twin.low:.3g} to {twin.high:.3g})",
        str(twin.items),
        f"{one.base.value:.3g}",
        "-" if one.chance is None else f"{one.chance:.3g}",
    )


def show_answer(answer: Answer) -> None:
    """An answer with its receipts."""
    out.print(answer.text, markup=False)
    receipts = answer.receipts
    if used := receipts.adapter:
        out.print(
            f"  from version {used.version} ({used.weights[:12]}), sure to {used.probability:.0%}",
            style="dim",
        )
    for prompt in receipts.prompts:
        out.print(f"  from {prompt.at:%Y-%m-%d %H:%M} {prompt.text}", style="dim", markup=False)
    if cohort := receipts.cohort:
        span = f", {cohort.oldest_at:%Y-%m-%d %H:%M} to {cohort.newest_at:%H:%M}" if cohort.oldest_at else ""
        out.print(f"  over {cohort.size} twins{span}", style="dim")
    for command in answer.commands:
        out.print(f"  command {command.id}: {command.state}", style="dim", markup=False)


def show_nearness(found: Nearness) -> None:
    """How near a twin is to its primary, beside how near the primary is to itself."""
    nearer = f"{found.kl:.3f} nats a token from the primary at least; the base is {found.kl_base:.3f}"
    out.print(_measured(found.measured, f"version {found.version} beside its primary", nearer))


def show_tried(found: Tried) -> None:
    """What became of the answers under a change, and what is foretold."""
    told = found.foretold
    said = (
        f"as on record, but for case and punctuation: {told.low:.0%} to {told.high:.0%} of as many to come"
        if told
        else None
    )
    out.print(_measured(found.measured, "answers under the change, beside those on record", said))
    for reason, count in found.failures.items():
        err.print(f"{count} not answered: {reason}", style="yellow", markup=False)


def _measured(found: Discrepancy, title: str, caption: str | None) -> Table:
    table = Table(title=title, caption=caption)
    for name in ("measure", "apart", "primary from itself", "times"):
        table.add_column(name, justify="left" if name == "measure" else "right")
    for one in found.measures:
        table.add_row(one.name, *(_estimate(each) for each in (one.discrepancy, one.floor, one.ratio)))
    return table


def _estimate(found: Estimate | None) -> str:
    return "-" if found is None else f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


def show_gate(found: SoFar) -> None:
    """A verdict, its grounds, and how many more sessions it needs."""
    more = f"; about {found.items_more:,} more sessions are needed" if found.items_more else ""
    out.print(
        f"{found.verdict.upper()}: {found.difference:+.4f} ({found.low:+.4f} to {found.high:+.4f}) of the"
        f" primary's probability a token, over {found.items} held-out sessions{more}"
    )
