"""Where MLflow holds the name of a study: its experiment, a tag of its runs, its view, and its registered model.

The ledger decides how a study is called. `follow` gives MLflow that name wherever it has a former one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from hpo.errors import InfrastructureError
from hpo.home import confirmation_of, confirmed_study
from hpo.ledger.records import StudyRecord

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

STUDY_TAG, IDENTITY_TAG = "hpo.study", "hpo.identity"
TRIAL_TAG, RETRAINING_TAG = "hpo.trial", "hpo.retraining"


def experiment_of(study: StudyRecord) -> str:
    """The name of the experiment with the runs of a study."""
    return study.spec.tracking.experiment or study.name


def identifying_tags(study: StudyRecord) -> dict[str, str]:
    """The tags that every run of a study has, and no other run."""
    return {STUDY_TAG: study.name, IDENTITY_TAG: str(study.info.get("identity", ""))}


def query(tags: Mapping[str, str]) -> str:
    """MLflow's search filter for runs with these tags."""
    return " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())


def view_key(study: str) -> str:
    """The key of a study's view, as `hpo.tracking.ui.view` makes it, in MLflow's addresses."""
    return f"hpo-{study}"


def view_tag(study: str) -> str:
    """The name of the experiment's tag that holds the view of a study."""
    return f"mlflow.sharedViewState.{view_key(study)}"


def model_description(study: str) -> str:
    """The description of a study's registered model."""
    return f"Retrained configurations of study {study}"


def find_experiment(client: MlflowClient, name: str) -> Experiment | None:
    """The experiment of this name; None if there is none.

    Raises:
        InfrastructureError: it is deleted. MLflow keeps its name but takes no runs.
    """
    experiment = client.get_experiment_by_name(name)
    if experiment is not None and experiment.lifecycle_stage == "deleted":
        raise InfrastructureError(
            f"MLflow's experiment {name!r} is deleted, and MLflow takes no runs for it. Restore it with: mlflow "
            f"experiments restore --experiment-id {experiment.experiment_id} (with MLFLOW_TRACKING_URI set to its "
            "store), or set tracking.experiment=NAME to another one"
        )
    return experiment


def follow(client: MlflowClient, study: StudyRecord) -> int:
    """Give MLflow the name of a study, and of its confirmation, where it has a former one.

    Repeating a call changes nothing, and a call that was cut off is completed by the next one. Runs of other studies
    are never touched, whatever their names are.

    Returns:
        The number of runs that had a former name.
    """
    if not study.former_names:
        return 0
    name = confirmed_study(study.name) or study.name
    experiment = _renamed_experiment(client, study, name)
    if experiment is None:
        return 0
    count = 0
    for former in study.former_names:
        if study.info.get("retrainings"):
            _rename_model(client, study, former, name)
        for old, new in ((former, name), (confirmation_of(former), confirmation_of(name))):
            runs = list(_runs(client, study, experiment, old))
            for run in runs:
                _rename(client, run, new)
            if runs and view_tag(old) in experiment.tags:
                client.delete_experiment_tag(experiment.experiment_id, view_tag(old))
            count += len(runs)
    return count


def experiment_stays(client: MlflowClient, study: StudyRecord, new: str) -> str | None:
    """Why the experiment that is named like a study cannot get the study's new name; None if it can."""
    if client.get_experiment_by_name(new) is not None:
        return f"MLflow has an experiment {new} already"
    experiment = client.get_experiment_by_name(study.name)
    others = f"tags.`{IDENTITY_TAG}` != '{identifying_tags(study)[IDENTITY_TAG]}'"
    if experiment is not None and client.search_runs([experiment.experiment_id], others, max_results=1):
        return "it has runs of other studies"
    return None


def _renamed_experiment(client: MlflowClient, study: StudyRecord, name: str) -> Experiment | None:
    """The experiment of a study, which gets its name now if it has a former one; None if there is none."""
    place = study.spec.tracking.experiment or name
    experiment = client.get_experiment_by_name(place)
    if experiment is not None or place != name:
        return experiment
    for former in study.former_names:
        experiment = client.get_experiment_by_name(former)
        if experiment is not None and next(_runs(client, study, experiment, former), None) is not None:
            client.rename_experiment(experiment.experiment_id, name)
            return experiment
    return None


def _runs(client: MlflowClient, study: StudyRecord, experiment: Experiment, name: str) -> Iterator[Run]:
    """The runs that carry a name of a study, its own run last: as long as that has it, others may have it too."""
    tags, own, token = identifying_tags(study) | {STUDY_TAG: name}, [], ""
    while True:
        page = client.search_runs([experiment.experiment_id], query(tags), max_results=1000, page_token=token or None)
        for run in page:
            if run.data.tags.keys() & {TRIAL_TAG, RETRAINING_TAG}:
                yield run
            else:
                own.append(run)
        token = page.token
        if not token:
            yield from own
            return


def _rename(client: MlflowClient, run: Run, name: str) -> None:
    if not run.data.tags.keys() & {TRIAL_TAG, RETRAINING_TAG}:
        client.update_run(run.info.run_id, name=name)
    client.set_tag(run.info.run_id, STUDY_TAG, name)


def _rename_model(client: MlflowClient, study: StudyRecord, former: str, name: str) -> None:
    """Rename the registered model if all its versions are the study's and there is none of the new name."""
    if client.search_registered_models(f"name = '{name}'"):
        return
    versions = client.search_model_versions(f"name = '{former}'")
    identity = identifying_tags(study)[IDENTITY_TAG]
    runs = [client.get_run(version.run_id) for version in versions if version.run_id]
    mine = [run for run in runs if run.data.tags.get(IDENTITY_TAG) == identity]
    if versions and len(mine) == len(versions):
        client.rename_registered_model(former, name)
        client.update_registered_model(name, model_description(name))
