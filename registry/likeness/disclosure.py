"""How much a domain may tell of one node. In medicine a node is a person, whatever a schema says."""

from __future__ import annotations

from typing import Final

from registry.errors import ConfigError
from registry.likeness.schema import MIN_AGGREGATED

MEDICINE: Final = "medicine"  # the domain of this name, and all below it
MIN_MEDICAL: Final = 11  # patients in a published sum, at least


def check_disclosure(domain: str, release: str, least: int) -> None:
    """Raise ConfigError where the domain would release what is not to be released of persons.

    release, least: what is in force, of the schema and the configuration together; least is `min_cohort`.
    """
    medical = domain.rpartition(".")[2] == MEDICINE
    if medical and release == "packets":
        raise ConfigError(
            f"{domain}: domains of medicine release aggregates; take `release: packets` out of the schema, or, where "
            "no node is a person, give the domain a name that does not end in .medicine"
        )
    floor = MIN_MEDICAL if medical else MIN_AGGREGATED
    if release == "aggregates" and least < floor:
        where = "in medicine" if medical else "where aggregates are released"
        raise ConfigError(f"{domain}: {where} min_cohort is {floor} at least, not {least}")
