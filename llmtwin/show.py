"""Shows people what commands found: tables, bars and lines. It decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from llmtwin.edge.outbox import Pushed
    from llmtwin.edge.results import Collected, Watched
    from llmtwin.models import tune as tuning
    from llmtwin.primary.canary import Ruling
    from llmtwin.primary.equal import Compared
    from llmtwin.primary.foretold import Foretold
    from llmtwin.primary.nearness import Nearness
    from llmtwin.primary.sampling import Sampled
    from llmtwin.primary.trying import Tried
    from llmtwin.primary.users import Talked
    from llmtwin.records import Answer, Card
    from llmtwin.twins.audit import Audit, Found
    from llmtwin.twins.intervals import Estimate
    from llmtwin.twins.model.checks import PassRates
    from llmtwin.twins.model.discrepancy import Discrepancy
    from llmtwin.twins.model.forecast import Forecast
    from llmtwin.twins.model.running import State, Tokens

# Much of what is shown was written by others: to print [x] or :on: is to print just that.
out = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
err = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)


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
            epochs = progress.epoch - 1 + progress.share
            bar.update(task, completed=epochs, total=progress.epochs_max, said=_goes(progress))

        yield report


def learning(progress: tuning.Progress) -> str:
    """Where a run stands, in words."""
    return f"learning, epoch {progress.epoch} of at most {progress.epochs_max}: {_goes(progress)}"


def _goes(progress: tuning.Progress) -> str:
    speed = f"{progress.tokens_per_s:.0f} tokens/s"
    return f"loss {progress.loss:.3f}  recall {progress.recall:.0%}  {speed}"


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
        err.print(f"the server refused {refused.kind} {refused.id}: {refused.reason}", style="red")
    out.print(f"{pushed.sent} sent, {pushed.left} waiting")
    if pushed.error is not None:
        err.print(f"not sent yet: {pushed.error}", style="yellow")


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
        "-" if one.base is None else f"{one.base.value:.3g}",
        "-" if one.chance is None else f"{one.chance:.3g}",
    )


def show_answer(answer: Answer) -> None:
    """An answer with its receipts."""
    out.print(answer.text)
    receipts = answer.receipts
    if used := receipts.adapter:
        sure = "" if used.probability is None else f", sure to {used.probability:.0%}"
        out.print(f"  from version {used.version} ({used.weights[:12]}){sure}", style="dim")
    for prompt in receipts.prompts:
        out.print(f"  from {prompt.at:%Y-%m-%d %H:%M} {prompt.text}", style="dim")
    if cohort := receipts.cohort:
        span = f", {cohort.oldest_at:%Y-%m-%d %H:%M} to {cohort.newest_at:%H:%M}" if cohort.oldest_at else ""
        out.print(f"  over {cohort.size} twins{span}", style="dim")
    for command in answer.commands:
        out.print(f"  command {command.id}: {command.state}", style="dim")
    if note := answer.plan.get("note"):
        err.print(str(note), style="yellow")


@contextmanager
def in_place() -> Iterator[Callable[[RenderableType], None]]:
    """A view that each call draws anew in its place, below all that is printed meanwhile."""
    with Live(console=out, auto_refresh=False, vertical_overflow="visible") as live:
        yield lambda view: live.update(view, refresh=True)


def show_watched(found: Watched) -> None:
    """What was asked and what differs; the card of what was learned since."""
    out.print(watched(found))
    if found.relearned is not None:
        show_card(found.relearned.card)
        show_pushed(found.relearned.pushed)


def watched(found: Watched) -> str:
    """What was asked and what differs, in words."""
    wrong, unlearned = found.discrepancy.wrong, len(found.discrepancy.unlearned)
    before = f"{unlearned} documents not learned yet; " if unlearned else ""
    named = f": {', '.join(wrong)}" if wrong else ""
    return f"{before}{found.discrepancy.asked} facts asked, {len(wrong)} wrong{named}"


def nearness(found: Nearness, state: State) -> Group:
    """How near a twin is to its primary, beside how near that is to itself; drift and cost on record."""
    nearer = f"{found.kl:.3f} nats a token from the primary at least; the base is {found.kl_base:.3f}"
    parts: list[RenderableType] = [
        _measured(found.measured, f"version {found.version} beside its primary", nearer)
    ]
    if state.discrepancy is not None:
        said = f"{state.shadows} answers of the twin, whichever version was live; the latest are compared"
        parts.append(_measured(state.discrepancy, "the twin's answers to traffic as it came", said))
    return Group(*parts, _drift(state), _cost(state))


def _drift(state: State) -> Text:
    if state.drift is None:
        return Text(f"drift: nothing to say yet of {state.exchanges} replies, the first ones are the anchor")
    found = state.drift
    since = f"{found.number.replace('_', ' ')} of {found.replies} replies beside the first ones"
    said = f"drift: e-value {found.e_value:.3g}, {found.level:g} alarms; {since}"
    return Text(f"{said}: ALARM", style="red") if found.alarm else Text(said)


def _cost(state: State) -> Text:
    def told(tokens: Tokens) -> str:
        return f"{tokens.asked:,} tokens asked and {tokens.said:,} said"

    twin = f"; the twin {told(state.tokens_twin)}" if state.shadows else ""
    return Text(f"cost: the primary {told(state.tokens_primary)} on record{twin}")


def show_requests(count: int) -> None:
    """What a comparison costs, before it is made."""
    err.print(f"{count:,} requests at most")


def show_sampled(name: str, found: Sampled) -> None:
    """Of how many of the twin's own answers it is known how likely the primary finds them."""
    known = f"; {found.before} were known before" if found.before else ""
    out.print(
        f"{name}@{found.version}: {found.answers} answers, {found.tokens:,} tokens{known}; the next"
        f" `llmtwin tune {name}` learns from them"
    )
    _show_failures(found.failures)


def show_tried(found: Tried) -> None:
    """What became of the answers under a change, and what is foretold."""
    told = "; ".join(f"{_of(one)}: {_span(one)}" for one in found.foretold)
    caption = f"of as many to come, {told}" if told else None
    out.print(_measured(found.measured, "answers under the change, beside those on record", caption))
    _show_rates(found.rates, "on record")
    _show_failures(found.failures)


def show_talked(found: Talked) -> None:
    """What became of conversations under a change, and how far the users in them are to be trusted."""
    title = f"{found.users} simulated users, {found.turns} turns: under the change, beside the primary"
    out.print(_measured(found.measured, title, None))
    _show_rates(found.rates, "as it is")
    if like := found.fidelity:
        out.print(
            f"fidelity of the users: {like.score:.2f} ({like.low:.2f} to {like.high:.2f}), 0 is chance, 1"
            f" the best that could be chosen, on {like.turns} held-out turns; told apart from people:"
            f" {like.told_apart:.0%}, where half is never"
        )
    if found.doubt:
        err.print(f"do not trust these conversations: {found.doubt}", style="yellow")
    _show_failures(found.failures)


def show_equality(found: Compared) -> None:
    """Whether two endpoints write the same, in a sentence, with its p-value."""
    test = found.equality
    chance = f"equals would differ as much or more in {test.p_value:.1%} of such comparisons"
    said = (
        "They do not write the same"
        if found.different
        else "No difference is found, which does not show that there is none"
    )
    out.print(f"{said}: {chance}.")
    out.print(
        f"p = {test.p_value:.3f}, squared discrepancy {test.discrepancy:.4f}, over {test.texts} answers to"
        f" {test.prompts} requests",
        style="dim",
    )
    if found.left_out:
        err.print(f"{found.left_out} requests had too few answers, and are left out", style="yellow")
    _show_failures(found.failures)


def show_foretold(found: Foretold) -> None:
    """What was foretold of changes, a line each, beside what came."""
    for one in found.since:
        made = one.forecast
        out.print(f"{made.at:%Y-%m-%d %H:%M} {made.change}: {_of(made)}: {_span(made)}")
        came = f"{one.answers} of {made.items_ahead} answers since"
        if one.share is not None:
            came += f", of which {one.share:.0%} do"
        held = "not judged yet" if one.checked is None else "as foretold" if one.checked.inside else "NOT so"
        out.print(f"  {one.note or f'{came}: {held}'}")
    if judged := found.calibration:
        out.print(f"{judged.inside} of {judged.checked} that could be judged held; 95 % should")


def _show_rates(rates: Sequence[PassRates], before: str) -> None:
    if not rates:
        return
    table = Table(title="replies that pass")
    table.add_column("check", overflow="fold")
    for name in (before, "under the change", "difference"):
        table.add_column(name, justify="right")
    for one in rates:
        table.add_row(one.name, f"{one.primary:.1%}", f"{one.twin:.1%}", _estimate(one.difference))
    out.print(table)


def _show_failures(failures: Mapping[str, int]) -> None:
    for reason, count in failures.items():
        err.print(f"{count} not answered: {reason}", style="yellow")


def _of(forecast: Forecast) -> str:
    """What a forecast is the share of."""
    from llmtwin.primary.trying import STAYED

    if forecast.score == STAYED:
        return "stay, but for case and punctuation"
    return f"pass {forecast.score}"


def _span(forecast: Forecast) -> str:
    return f"{max(0.0, forecast.low):.0%} to {min(1.0, forecast.high):.0%}"


def _measured(found: Discrepancy, title: str, caption: str | None) -> Table:
    table = Table(title=title, caption=caption)
    table.add_column("measure", overflow="fold")
    for name in ("apart", "primary from itself", "times"):
        table.add_column(name, justify="right")
    for one in found.measures:
        table.add_row(one.name, *map(_estimate, (one.discrepancy, one.floor, one.ratio)))
    return table


def _estimate(found: Estimate | None) -> str:
    return "-" if found is None else f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


def show_ruling(ruling: Ruling) -> None:
    """A verdict, its grounds, how many more sessions it needs, and what was done with it."""
    found = ruling.found
    more = f"; about {found.items_more:,} more sessions are needed" if found.items_more else ""
    out.print(
        f"{found.verdict.upper()}: {found.difference:+.4f} ({found.low:+.4f} to {found.high:+.4f}) of the"
        f" primary's probability a token, over {found.items} held-out sessions{more}"
    )
    version, other = f"{ruling.twin}@{ruling.candidate}", f"{ruling.twin}@{ruling.in_use}"
    done = {
        "canary": f"{version} answers its share of the sessions, {other} the others",
        "promote": f"{version} is live",
        "rollback": f"{version} is taken back: {other} is live",
    }
    if ruling.action in done:
        out.print(done[ruling.action])
