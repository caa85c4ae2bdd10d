"""Do findings come together in the made archive as in the real one?"""

from typing import Any

from counterscan.bench.synthesis.setting import Setting
from counterscan.metrics.cooccurrence import compared_patterns, joint_counts, odds_of_pairs, prevalence

QUICK_DEALS, DEALS = 200, 2000


def cooccurrence(setting: Setting) -> dict[str, Any]:
    """Prevalences, joint counts, combinations of findings, and the odds ratio of each pair, made beside real.

    Where a case shows one class there are no pairs.
    """
    made, real = setting.made, setting.real
    classes, sides = made.manifest.classes, (made.labels, real.labels)
    whose = (made.patients, real.patients)
    deals = QUICK_DEALS if setting.quick else DEALS
    found: dict[str, Any] = {
        "classes": list(classes),
        "patterns": compared_patterns(*sides, classes, *whose, draws=deals, seed=setting.seed).to_dict(),
    }
    for archive in (made, real):
        shares = [one.to_dict() for one in prevalence(archive.labels, archive.patients)]
        found[archive.name] = {
            "n": len(archive),
            "prevalence": dict(zip(classes, shares, strict=True)),
            "joint": joint_counts(archive.labels).tolist(),
        }
    pairs = {} if made.manifest.exclusive else odds_of_pairs(*sides, classes, *whose)
    found["odds"] = [{"pair": list(pair), **odds.to_dict()} for pair, odds in pairs.items()]
    return found
