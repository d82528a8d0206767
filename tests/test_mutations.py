"""`verify` cannot be fooled: networks with one thing changed, and whether it says so and where."""

import random
from collections import Counter, defaultdict

import pytest
from conftest import VARIANTS, Variant, smallest
from mutations import Mutation, mutant, mutations

import cnnzoo
from cnnzoo.construction import outline
from cnnzoo.verification import Verification

EQUIVALENT = {
    ("tutorials", "ceil mode: avg_pool"): "its window is the whole map, so that there is nothing to round",
    ("alexnet", "max and average swapped: avgpool"): "it makes 6x6 of maps of 6x6: each value is its own average",
    ("vgg", "max and average swapped: avgpool"): "it makes 7x7 of maps of 7x7: each value is its own average",
}
"""Mutants that compute what the network computes, by family: nobody can tell them from it."""

CAUGHT = 0.99


def built(variant: Variant):
    spec = cnnzoo.spec(variant.name)
    return outline(lambda: spec.constructor(**variant.options))


def chosen(variant: Variant, each: int) -> list[Mutation]:
    """At most so many of each kind, the same ones every time."""
    kinds = defaultdict(list)
    for mutation in mutations(built(variant)):
        kinds[mutation.kind].append(mutation)
    draw = random.Random(0)
    return [one for kind in kinds.values() for one in draw.sample(kind, min(each, len(kind)))]


def names_it(found: Verification, mutation: Mutation) -> bool:
    """Whether a difference is at one of the layers, or says that one of them stands elsewhere."""
    for row in found.differences:
        said = {row.layer, *row.layer.replace("(", "").replace(")", "").split()}
        words = {word.strip(",()") for text in (row.paper, row.model) for word in str(text).split()}
        for layer in mutation.layers:
            if layer in words or any(one == layer or one.startswith(f"{layer}.") for one in said):
                return True
            if any(layer.startswith(f"{one}.") for one in said if one):  # it is in a part that is named
                return True
    return False


def survivors(variant: Variant, each: int) -> tuple[Counter, list[tuple[str, str]]]:
    """How many mutants of each kind there are, and those that pass or are not named."""
    model = built(variant)
    counts: Counter = Counter()
    alive = []
    for mutation in chosen(variant, each):
        if (cnnzoo.spec(variant.name).family, str(mutation)) in EQUIVALENT:
            continue
        counts[mutation.kind] += 1
        found = cnnzoo.verify(mutant(model, mutation))
        if found.ok:
            alive.append((str(mutation), "agrees"))
        elif not names_it(found, mutation):
            alive.append((str(mutation), str([found.cells(row)[:4] for row in found.differences[:3]])))
    return counts, alive


@pytest.mark.parametrize(
    "network",
    [
        pytest.param(one, id=str(one), marks=() if one.name in ("lenet5", "cifar_resnet20") else pytest.mark.slow)
        for one in VARIANTS
    ],
)
def test_a_change_of_any_kind_is_seen_and_named(network: Variant, record_property) -> None:
    each = 12 if network in smallest() else 1
    counts, alive = survivors(network, each)
    record_property("mutations", sum(counts.values()))
    record_property("caught", sum(counts.values()) - len(alive))
    assert sum(counts.values()) > 20 or each == 1
    assert len(alive) <= (1 - CAUGHT) * sum(counts.values()), alive


@pytest.mark.thorough
def test_the_copy_that_is_changed_agrees_before(variant: Variant) -> None:
    unchanged = Mutation("none", (), lambda model: None)
    assert cnnzoo.verify(mutant(built(variant), unchanged)).differences == ()
