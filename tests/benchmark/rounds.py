"""Every load over every proxy, round by round, and the tables of what came out.

A load is a module. PEERS has a way to start each proxy that can take it, `start_backends` starts what
stands behind them, `measure` puts the load on one proxy and returns its figures by name. TITLE and
COLUMNS make them a table, COMPARED the line of ratios, PACKAGES names what the load needs of Debian.
"""

import statistics
import sys

from .bed import Bed, free_port


def measure(loads, names, rounds, seconds):
    """For each load, for each name that can take part, the figures of every round."""
    bed = Bed()
    try:
        running = {load: start(bed, load, names) for load in loads}
        figures = {load: {name: [] for name in running[load]} for load in loads}
        for load, proxies in running.items():
            for proxy, port in proxies.values():
                load.measure(proxy, port, 1)
        for i in range(rounds):
            # The one that goes first changes from round to round.
            order = names[i % len(names):] + names[:i % len(names)]
            for load in loads:
                for name in filter(running[load].get, order):
                    figures[load][name].append(load.measure(*running[load][name], seconds))
            print(f"round {i + 1} of {rounds}", file=sys.stderr)
    finally:
        bed.close()
    return figures


def start(bed, load, names):
    """The backends of a load, and before them each proxy with a port of its own."""
    backends, running = load.start_backends(bed), {}
    for name in filter(load.PEERS.get, names):
        port = free_port()
        running[name] = load.PEERS[name](bed, port, backends), port
    return running


def report(names, figures):
    for load, by_name in figures.items():
        table(load, by_name)
        print()
    if "outrigger" not in names:
        return
    for peer in (name for name in names if name != "outrigger"):
        ratios = (f"{what} {ratio(by_name['outrigger'], by_name[peer], key):.2f}"
                  for load, by_name in figures.items() if peer in by_name
                  for what, key in load.COMPARED.items())
        print(f"outrigger / {peer}: {', '.join(ratios)}")


def table(load, by_name):
    print(f"| {load.TITLE} | {' | '.join(load.COLUMNS)} |")
    print("|---" * (len(load.COLUMNS) + 1) + "|")
    for name, rounds in by_name.items():
        medians = {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}
        cells = (column.format(**medians) for column in load.COLUMNS.values())
        print(f"| {name} | {' | '.join(cells)} |")


def ratio(ours, theirs, key):
    return statistics.median(a[key] / b[key] for a, b in zip(ours, theirs))
