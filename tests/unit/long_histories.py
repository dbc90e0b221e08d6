"""The histories of `test_decide_histories`, without hypothesis's care for each and hence in millions.

Run: `python -m tests.unit.long_histories --histories 1000000`. A history that breaks a promise is named by its
seed, with its steps; hypothesis finds a shorter one of the kind.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import sys
import time

from tests.unit.test_decide_histories import VALUES, Histories

STEPS = 40


def main() -> None:
    """Exit code 0: every promise was kept in every history."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--histories", type=int, default=100_000)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=multiprocessing.cpu_count())
    args = parser.parse_args()
    began = time.monotonic()
    with multiprocessing.Pool(args.processes) as pool:
        seeds = range(args.first_seed, args.first_seed + args.histories)
        for broken in pool.imap_unordered(play, seeds, chunksize=200):
            if broken:
                sys.exit(broken)
    print(f"{args.histories:,} histories of up to {STEPS} steps in {time.monotonic() - began:.0f} s: no promise broken")


def play(seed: int) -> str:
    """One history; how it broke a promise, or an empty text."""
    rng, machine, steps = random.Random(seed), Histories(), []
    rules = machine.rules  # what the decorator `rule` has gathered
    try:
        for _ in range(STEPS):
            rule = rng.choice(rules)
            if all(condition(machine) for condition in rule.preconditions):
                arguments = {name: rng.choice(VALUES.get(name, [False, True])) for name in rule.arguments}
                steps.append(f"{rule.function.__name__}({arguments})")
                rule.function(machine, **arguments)
                machine.at_most_one_writer()
        machine.teardown()
    except AssertionError as error:
        return f"seed {seed}: {str(error).splitlines()[0]}\n  " + "\n  ".join(steps)
    return ""


if __name__ == "__main__":
    main()
