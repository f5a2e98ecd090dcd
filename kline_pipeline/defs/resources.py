"""The pipeline as a Dagster resource, opened for a run and closed after it; how it is opened is told in opening.py."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Annotated, Any, Final

import dagster as dg
from pydantic import Field, create_model
from pydantic.fields import FieldInfo

from kline_pipeline.config import BybitSettings, Settings
from kline_pipeline.defs.automation.run_scope import partitions_of
from kline_pipeline.defs.instance.orphans import hold_run_lock
from kline_pipeline.defs.run_lines import prepare, run_lines, without_secrets
from kline_pipeline.opening import opened
from kline_pipeline.pipeline import Pipeline


def _override(field: FieldInfo) -> tuple[Any, Any]:
    checked: Any = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
    return checked | None, Field(default=None, description=field.description)


# Secrets have no place in a run's config, and the page cache is none of a run's business.
_NOT_IN_RUNS: Final = frozenset({"api_key", "api_secret", "cache_url", "cache_ttl_days", "cache_max_mb"})
_FIELDS: Final[dict[str, Any]] = {
    name: _override(field) for name, field in BybitSettings.model_fields.items() if name not in _NOT_IN_RUNS
}


class BybitResource(create_model("BybitFields", __base__=dg.ConfigurableResource, **_FIELDS)):  # type: ignore[misc]
    """How to talk to the exchange in one run; what is not given here is as the BYBIT_ variables say.

    The fields are those of BybitSettings that concern a run, with their bounds; none is a secret.
    """

    def over(self, settings: BybitSettings) -> BybitSettings:
        """Return the settings with what is given here in place of theirs."""
        given = {name: value for name in _FIELDS if (value := getattr(self, name)) is not None}
        return settings.model_copy(update=given)


class PipelineResource(dg.ConfigurableResource[Pipeline]):
    """The pipeline of the KLINE_HOME of this process, with database and client open for the length of a run."""

    bybit: dg.ResourceDependency[BybitResource]

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[Pipeline]:
        """Open the pipeline for a run and close it after it; the run's lock shows that its process lives.

        Raises:
            ConfigError: a variable has a value that cannot work.
            DatabaseUnavailable: no server answers.
        """
        settings = Settings.load()
        settings.bybit = self.bybit.over(settings.bybit)
        prepare(settings)
        with ExitStack() as stack:
            if context.run is not None:
                lines = run_lines(context.run.run_id, job=context.run.job_name, partitions=partitions_of(context.run))
                stack.enter_context(lines)
            stack.enter_context(without_secrets())
            one = stack.enter_context(opened(settings))
            if context.run is not None and context.instance is not None:
                stack.enter_context(hold_run_lock(one.database, context.run.run_id, context.instance))
            yield one.pipeline


def resources() -> dict[str, Any]:
    """Return the resources of the definitions: `pipeline`, and `bybit`, whose fields a run may set in the launchpad."""
    bybit = BybitResource.configure_at_launch()
    return {"bybit": bybit, "pipeline": PipelineResource(bybit=bybit)}
