"""Which searches are compared, and the environments of their tools."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

_ADAPTERS = "reports.benchmarks.search.peers.adapters"


@dataclass(frozen=True)
class Recipe:
    """How an environment is made."""

    requirements: tuple[str, ...]
    """With all that they need."""
    alone: tuple[str, ...] = ()
    """Without what they name: that is large and not needed, or comes from the benchmark's own environment."""
    borrows: bool = False
    """Whether packages that it lacks come from the benchmark's own environment."""


ENVIRONMENTS = {
    "syne_tune": Recipe(("syne-tune[gpsearchers,kde]==0.13.0",)),
    "syne_tune_cqr": Recipe(
        (
            *("numpy", "dill", "pandas", "typing-extensions", "sortedcontainers", "statsmodels", "scikit-learn"),
            *("tqdm", "psutil", "huggingface-hub"),
        ),
        alone=("syne-tune==0.16.0", "xgboost"),
    ),
    "dehb": Recipe(("dehb==0.1.2",)),
    "smac": Recipe(("smac==2.4.1",)),
    "neps": Recipe(
        ("numpy>=2", "pandas<3", "networkx<3", "scipy", "more-itertools", "portalocker<3", "pyyaml"),
        alone=(
            *("neural-pipeline-search==0.17.0", "botorch==0.12.0", "gpytorch==1.13.0", "linear-operator==0.5.3"),
            *("jaxtyping", "wadler-lindig", "pyro-ppl", "pyro-api", "pyre-extensions", "typing-inspect"),
            *("mypy-extensions", "ifbo", "submitit", "pymoo", "seaborn", "opt-einsum", "multipledispatch"),
        ),
        borrows=True,
    ),
}


@dataclass(frozen=True)
class Entry:
    """A search of the comparison."""

    name: str
    adapter: str
    """MODULE:FUNCTION in the folder of adapters."""
    package: str
    """The distribution whose version is recorded."""
    told: str
    """What it is and how it prunes, for a table."""
    environment: str | None = None
    """None: the benchmark's own."""

    @property
    def factory(self) -> str:
        return f"{_ADAPTERS}.{self.adapter}"

    def python(self, folder: Path) -> Path:
        """The interpreter of its environment."""
        return Path(sys.executable) if self.environment is None else folder / self.environment / "bin" / "python"


ENTRIES = (
    Entry("gp", "own:gp", "hpo-efficientnetv2", "the suggested default: ASHA stops"),
    Entry("random", "own:random", "hpo-efficientnetv2", "random, the same ASHA"),
    Entry("stock", "own:stock", "ray", "Ray's OptunaSearch, Ray's ASHA stops"),
    Entry("full", "baselines:to_the_end", "hpo-efficientnetv2", "random, all to the end (Egele et al.)"),
    Entry("one epoch", "baselines:one_epoch", "hpo-efficientnetv2", "random, one epoch, then the best (Egele et al.)"),
    Entry("tpe+hyperband", "with_optuna:tpe_hyperband", "optuna", "Optuna's TPE, told of pruned trials"),
    Entry("tpe+halving", "with_optuna:tpe_halving", "optuna", "Optuna's TPE, told of pruned trials"),
    Entry("gpsampler+halving", "with_optuna:gp_halving", "optuna", "Optuna's GPSampler, which ignores pruned trials"),
    Entry("bohb", "with_syne_tune:bohb", "syne-tune", "Syne Tune's BOHB, asynchronous: stops", "syne_tune"),
    Entry("dehb", "with_dehb:dehb", "dehb", "evolution and Hyperband: jobs with epochs", "dehb"),
    Entry("priorband", "with_neps:priorband", "neural-pipeline-search", "NePS, ASHA base: jobs with epochs", "neps"),
    Entry("smac", "with_smac:multi_fidelity", "smac", "random forest and Hyperband: jobs with epochs", "smac"),
    Entry("cqr", "with_syne_tune_cqr:cqr", "syne-tune", "Syne Tune's ASHACQR: stops", "syne_tune_cqr"),
    Entry("mobster", "with_syne_tune:mobster", "syne-tune", "Syne Tune's MOBSTER: stops", "syne_tune"),
)
"""Those whose studies take least time come first."""
