"""The list of cases."""

from dataclasses import dataclass
from typing import Callable

CASES = []


@dataclass
class Case:
    section: str
    rule: str
    run: Callable
    raw: bool


def case(section, rule, raw=False):
    """A rule of a section. `run` gets a connection whose settings have been exchanged, unless `raw`."""

    def add(run):
        CASES.append(Case(section, rule, run, raw))
        return run

    return add
