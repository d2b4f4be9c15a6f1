"""`template-transform` over values too large for the web process: the same rendering, in a `cpu` worker."""

from __future__ import annotations

from collections.abc import Callable

from app.domain.event import Tick
from app.domain.run import Step, Succeeded
from app.errors import NodeFailed
from app.graph.nodes.template_transform import TemplateTransform
from app.runs.publications import Publications
from app.store import runs
from app.store.engine import Tx
from app.store.store import Store
from workers.run_step import NodeRun, Stopwatch


class RenderTemplate:
    """Renders the node of the run's own workflow version over the step's inputs."""

    def __init__(self, store: Store, publications: Publications) -> None:
        self._store = store
        self._publications = publications

    def run(
        self, step: Step, on_tick: Callable[[Tick], None], is_halted: Callable[[], bool], watch: Stopwatch
    ) -> NodeRun:
        work = self._store.read_blocking(lambda tx: self._work(tx, step))
        return NodeRun(Succeeded({"output": work.render(step.inputs or {})}))

    def _work(self, tx: Tx, step: Step) -> TemplateTransform:
        run = runs.find_run(tx, step.run_id)
        work = run and self._publications.graph_of(tx, run.workflow_id).nodes[step.node_id].work
        if not isinstance(work, TemplateTransform):
            raise NodeFailed(f"The node '{step.node_id}' is no template.")
        return work
