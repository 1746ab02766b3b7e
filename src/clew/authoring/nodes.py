"""What a user's file is made of: a pipeline, its sources, its steps and the inputs between them.

It records definitions and runs nothing; the rooms that carry them out own their meaning.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, Unpack

from msgspec.structs import replace

from clew.authoring.cards import check_card
from clew.authoring.checks import (
    check_feasible,
    check_limits,
    check_name,
    check_parameters,
    check_signature,
    invalid,
    trial_parameters,
)
from clew.authoring.closing import Closing
from clew.authoring.declaring import Dependency, check_allow, check_depends
from clew.authoring.feeding import feed_of
from clew.authoring.inputs import (
    Arranged,
    Cron,
    Given,
    Node,
    Source,
    arrange,
    leaves_of,
    width,
)
from clew.authoring.options import StepOptions, TrainingOptions
from clew.authoring.policies import StepPolicy, pipeline_policy, policy_of
from clew.authoring.programs import command_of, runtime_of
from clew.authoring.steps import (
    Borrowed,
    Command,
    Function,
    Step,
    Training,
    check_inputs,
    named_inputs,
)
from clew.base.ranks import Ranks, as_ranks
from clew.base.records.card_words import CardText
from clew.determined import HARNESS, determined_of
from clew.experiments import SearchDefinition, single
from clew.models import HoldoutDefinition
from clew.sources import Feed

Any_Node = TypeVar("Any_Node", bound="Node")


class Pipeline(Closing):
    """A graph of sources and steps, with the gates, endpoints and monitors that close its loop.

    Make one at module level and decorate functions with its methods; ``clew apply FILE`` registers
    it. The name is also the project that its repos live in.

    ``max_jobs``, ``parallel`` (datums at once) and ``rate`` (starts of jobs, ``"10/min"``) hold for
    all its steps together; ``priority`` and ``every_commit`` are what a step has that says nothing
    else.
    """

    def __init__(
        self,
        name: str,
        *,
        description: str = "",
        priority: int = 0,
        every_commit: bool = True,
        max_jobs: int | None = None,
        parallel: int | None = None,
        rate: str = "",
    ) -> None:
        check_name(name, "a pipeline")
        self.name = name
        self.description = description
        self.defaults = {"priority": priority, "every_commit": every_commit}
        self.policy = pipeline_policy(name, max_jobs=max_jobs, parallel=parallel, rate=rate)
        self.nodes: dict[str, Node] = {}
        self.endpoints = {}
        self.graphs = {}
        self.monitors = []
        self.triggers = []

    def __repr__(self) -> str:
        return f"<pipeline {self.name}: {', '.join(self.nodes) or 'empty'}>"

    def source(
        self,
        name: str,
        feed: Feed | None = None,
        *,
        branch: str = "main",
        repo: str = "",
        sql: str = "",
        **polling: Any,
    ) -> Source:
        """A repo that is committed to from outside (``repo``: of another pipeline, say).

        With a ``feed`` it commits by itself: ``clew.directory(...)``, ``clew.bucket(...)``,
        ``clew.webhook(...)``, ``clew.redis_stream(...)``, ``clew.kafka(...)``,
        ``clew.database(...)``; ``sql=`` with ``url=``, ``every=``, ``watermark=`` and the rest of
        ``clew.database`` is short for the last.
        """
        found = feed_of(name, feed, sql, polling)
        return self._add(Source(self, name, repo=repo, branch=branch, feed=found))

    def step(
        self,
        *inputs: Given,
        per: str = "repo",
        name: str = "",
        retries: int = 0,
        timeout_s: float | None = None,
        memory_bytes: int | None = None,
        version: str = "",
        parameters: Mapping[str, object] | None = None,
        requirements: Sequence[str] | str = (),
        python: str = "",
        cpus: int | None = None,
        depends_on: Dependency = None,
        allow: Sequence[str] = (),
        **how: Unpack[StepPolicy],
    ) -> Callable[[Function], Step]:
        """Make a function a step. Arguments are its inputs, in the order of its parameters.

        The annotation of a parameter says how data arrives (polars, pandas, Arrow, DuckDB,
        ``clew.File``, ``Path``, ``bytes``, ``list[...]``, JSON); that of the result how it is kept.

        Args:
            inputs: Nodes, or some of their files: ``flights.glob("/*.parquet")``.
            per: ``file``: one datum per file of the first input, so that only new or changed files
                run; ``directory``: one per directory; ``repo``: all files together.
            name: Name of the step, if not the function's.
            retries: How often a failing datum is tried again, with growing pauses.
            timeout_s: Seconds after which a datum is stopped.
            memory_bytes: Bytes of memory above which a datum is stopped.
            version: Stands for the code: the step runs anew only when this changes.
            parameters: Passed to the function by name; a change runs the step anew.
            requirements: Packages of an environment of its own, ``["pandas==2.2.3"]``, or the name
                of a requirements file of the project. It holds nothing else but what Clew's worker
                needs; import its packages inside the function.
            python: The version of Python of that environment, ``"3.12"``, or an interpreter's path.
            cpus: How many cores a datum may use.
            depends_on: What else results depend on, one or a list: functions, classes and modules
                of the project, paths or globs of its files, ``"env:NAME"``, ``"repo:NAME@BRANCH"``,
                nodes of the pipeline, a dict of plain values. A change runs the step anew.
            allow: Reads that need no warning: ``clock``, ``random``, ``network``, ``program``,
                ``env:NAME``, ``file:/data/**``, or ``*``.
            how: How it is run: see :class:`StepPolicy`.

        Raises:
            Invalid: ``pipeline.definition`` for a wrong ``per``, input or name.
        """
        check_inputs(inputs, "step")
        options = StepOptions(
            name=name,
            retries=retries,
            timeout_s=timeout_s,
            memory_bytes=memory_bytes,
            version=version,
            parameters=parameters or {},
            runtime=runtime_of(
                name or "a step", requirements=requirements, python=python, cpus=cpus
            ),
            depends_on=check_depends(depends_on),
            allow=check_allow(allow),
        )
        check_limits(
            retries=options.retries,
            timeout_s=options.timeout_s,
            memory_bytes=options.memory_bytes,
        )
        check_parameters(options.parameters)

        def record(function: Function) -> Step:
            found = self._inputs(function, inputs, per, named=tuple(options.parameters))
            names = list(inspect.signature(function).parameters)
            written = policy_of(function.__name__, how, self.defaults, names)
            return self._add(Step(self, function, found, replace(options, how=written)))

        return record

    def cmd(
        self,
        name: str,
        command: Sequence[str] | str,
        *inputs: Given,
        named: Mapping[str, Given] | None = None,
        per: str = "repo",
        stdin: str = "",
        stdout: str = "",
        pipes: Sequence[str] = (),
        exit_codes: Sequence[int] = (0,),
        env: Mapping[str, str] | None = None,
        retries: int = 0,
        timeout_s: float | None = None,
        memory_bytes: int | None = None,
        cpus: int | None = None,
        version: str = "",
        parameters: Mapping[str, object] | None = None,
        requirements: Sequence[str] | str = (),
        python: str = "",
        sandbox: bool = False,
        network: bool | None = None,
        image: str = "",
        depends_on: Dependency = None,
        **how: Unpack[StepPolicy],
    ) -> Command:
        """Make a program in any language a step: it reads directories and writes one.

        Each input is a directory, called after its node: ``$CLEW_INPUT_raw``, and where the datum
        has one file of it, ``$CLEW_FILE_raw`` is that file. What the program leaves below
        ``$CLEW_OUTPUT`` is its output. It starts in a directory where the files of the project
        are. In a list, ``$CLEW_...`` is replaced in every argument; a text goes to ``/bin/sh``.
        Standard output and error are in the log.

        Args:
            name: Name of the step.
            command: The program and its arguments, ``["Rscript", "clean.R"]``, or a text for the
                shell. Files of the project that it names, and those they name, are its code.
            inputs: Nodes, or some of their files, as in :meth:`step`.
            named: More inputs, with names for them.
            per: ``file``, ``directory`` or ``repo``; how the first input is cut into datums.
            stdin: The input whose files are fed to standard input, without a copy on disk.
            stdout: The file of the output that standard output becomes, ``{name}.csv``; it goes
                to the store as it comes.
            pipes: Inputs whose files are named pipes, to be read once from start to end; nothing
                of them is copied to disk.
            exit_codes: Which exit codes mean success.
            env: More environment variables.
            retries: How often a failing datum is tried again, with growing pauses.
            timeout_s: Seconds after which a datum is stopped, with all its processes.
            memory_bytes: Bytes of memory above which a datum is stopped.
            cpus: How many cores a datum may use.
            version: Stands for the code: the step runs anew only when this changes.
            parameters: In ``$CLEW_PARAMETERS`` as JSON, and each in ``$CLEW_PARAMETER_name``.
            requirements: Packages of a Python environment whose programs come first on the PATH.
            python: The version of Python of that environment, ``"3.12"``, or an interpreter's path.
            sandbox: Close the program off: it sees its inputs at ``/pfs`` and a system that it
                cannot change, has a ``/tmp`` of its own and no network.
            network: Whether a sandbox or image has the network.
            image: A container image that it runs in, with its inputs at ``/pfs``.
            depends_on: What else results depend on, as in :meth:`step`.
            how: How it is run: see :class:`StepPolicy`.

        Raises:
            Invalid: ``pipeline.definition``.
        """
        check_name(name, "a command")
        found = named_inputs(name, inputs, named or {}, per)
        self._bind([*inputs, *(named or {}).values()])
        options = StepOptions(
            name=name,
            retries=retries,
            timeout_s=timeout_s,
            memory_bytes=memory_bytes,
            version=version,
            parameters=parameters or {},
            how=policy_of(name, how, self.defaults, [one.parameter for one in found.inputs]),
            runtime=runtime_of(
                name,
                requirements=requirements,
                python=python,
                sandbox=sandbox,
                network=network,
                image=image,
                cpus=cpus,
            ),
            depends_on=check_depends(depends_on),
        )
        check_limits(
            retries=options.retries,
            timeout_s=options.timeout_s,
            memory_bytes=options.memory_bytes,
        )
        check_parameters(options.parameters)
        program = command_of(
            name,
            command,
            names=list(dict.fromkeys(one.parameter for one in found.inputs)),
            stdin=stdin,
            stdout=stdout,
            pipes=pipes,
            exit_codes=exit_codes,
            env=env,
        )
        return self._add(Command(self, program, found, options))

    def expect(self, step: Step) -> Callable[[Function], Function]:
        """Make a function the expectations of a step's output: it gets a ``clew.Table``.

        Of a program it is each table among the files that it leaves. These are kept as they are, so
        that rows of theirs cannot be put into quarantine.
        """
        if not isinstance(step, Step) or step.pipeline is not self:
            raise invalid(f"{step!r} is not a step of {self.name}", "Give a decorated function.")

        def record(function: Function) -> Function:
            step.expectations.append(function)
            return function

        return record

    def train(
        self,
        *inputs: Given,
        target: str,
        test: HoldoutDefinition | Source,
        search: SearchDefinition | None = None,
        space: Mapping[str, Any] | None = None,
        workers: int | str | Ranks | None = None,
        feasible: Function | None = None,
        card: CardText | None = None,
        convert: bool = True,
        name: str = "",
        timeout_s: float | None = None,
        memory_bytes: int | None = None,
        version: str = "",
        parameters: Mapping[str, object] | None = None,
        requirements: Sequence[str] | str = (),
        python: str = "",
        depends_on: Dependency = None,
        allow: Sequence[str] = (),
        **how: Unpack[StepPolicy],
    ) -> Callable[[Function], Training]:
        """Make a function a training step: it gets the training rows, and a trial if it asks.

        The trial is its parameter called ``trial``, or annotated ``clew.Trial``.

        Args:
            inputs: One node (or some of its files) with the rows to learn from.
            target: The column to predict.
            test: Where the frozen test set comes from: ``clew.holdout(0.2, by="date")`` splits it
                off and keeps it out of all training, or a source whose data is the test set.
            search: How parameters are searched: ``clew.asha(...)``; one plain trial without it.
            space: Name of a parameter to its distribution, or to a space below that name.
            workers: How many processes train each trial together, as ranks of one group: a number,
                the name of a parameter of the space, or ``clew.workers(...)``. One plain process
                without it.
            feasible: A function of (params, metrics) that says which trials may win, by what they
                reported so far: True, or a number that is not above 0, for those that may. Numbers
                above 0 say how far from it a trial is, which guides the search.
            card: What people should know of the model: ``clew.card(...)``. It changes no result,
                so nothing is trained anew where it changes.
            convert: Convert the model to ONNX, whose form serves where it answers as the model
                itself does (``clew model NAME@3`` shows the comparison). False: the model itself.
            name: Name of the step, if not the function's.
            timeout_s: Seconds after which a trial is stopped.
            memory_bytes: Bytes of memory above which a trial is stopped.
            version: Stands for the code: training runs anew for code only when this changes.
            parameters: Passed to the function by name, behind the rows, the same in every trial; a
                change trains anew. What is searched stands in ``space``.
            requirements: Packages of an environment of its own, as in :meth:`step`: its trials run
                there, the model is packaged there (with MLflow, Polars and pandas beside what is
                asked for), and where its ONNX form does not serve it is asked there, in a process
                of its own. Import its packages inside the function.
            python: The version of Python of that environment.
            depends_on: What else results depend on, as in :meth:`step`.
            allow: Reads that need no warning, as in :meth:`step`.
            how: How it is run, but for what concerns datums: see :class:`StepPolicy`.

        Raises:
            Invalid: ``pipeline.definition``, ``ranks.invalid``.
        """
        check_inputs(inputs, "train")
        options = StepOptions(
            name=name,
            timeout_s=timeout_s,
            memory_bytes=memory_bytes,
            version=version,
            parameters=parameters or {},
            runtime=runtime_of(name or "a training step", requirements=requirements, python=python),
            depends_on=check_depends(depends_on),
            allow=check_allow(allow),
            how=policy_of(name or "a training step", how, self.defaults),
        )
        check_limits(
            retries=options.retries,
            timeout_s=options.timeout_s,
            memory_bytes=options.memory_bytes,
        )
        search = search or single()
        check_parameters(options.parameters)
        over = search.over(space or {})
        training = TrainingOptions(
            target=target,
            test=test,
            search=search,
            space=over,
            ranks=as_ranks(workers, over),
            card=check_card(card),
            feasible=check_feasible(feasible),
            convert=convert,
        )

        def record(function: Function) -> Training:
            named = tuple(options.parameters)
            apart = trial_parameters(function)
            found = self._inputs(function, inputs, "repo", named=named, apart=apart)
            if len(found.inputs) != 1:
                raise invalid(
                    f"The training step {function.__name__} has {len(found.inputs)} inputs",
                    "Give it one; join the data in a step before it.",
                )
            return self._add(Training(self, function, found, options, training))

        return record

    def determined(
        self,
        run: Function,
        config: Mapping[str, Any],
        *,
        name: str = "trials",
        requirements: Sequence[str] = (HARNESS,),
        python: str = "",
    ) -> Borrowed:
        """An experiment of Determined, as `clew det run` writes it into a file of its own.

        Args:
            run: ``clew.determined.run_task``, by that name at the top of the file.
            config: The experiment configuration; the project is its context directory.
            name: Name of the step.
            requirements: Packages of the trials' environment; the harness is among them.
            python: Version of its Python.

        Raises:
            Invalid: ``determined.config``, ``determined.unsupported``, ``pipeline.definition``.
        """
        runtime = runtime_of(name, requirements=requirements, python=python)
        options = StepOptions(name=name, runtime=runtime, allow=("*",))
        return self._add(Borrowed(self, run, options, determined_of(config)))

    def _add(self, node: Any_Node) -> Any_Node:
        check_name(node.name, f"a {type(node).__name__.lower()}")
        if node.name in self.nodes:
            raise invalid(
                f"{self.name} has two nodes named {node.name!r}", "Rename one, or give name=."
            )
        self.nodes[node.name] = node
        return node

    def _inputs(
        self,
        function: Function,
        inputs: Sequence[Given],
        per: str,
        *,
        named: tuple[str, ...] = (),
        apart: tuple[str, ...] = (),
    ) -> Arranged:
        count = width(inputs)
        check_signature(function, count, named, apart)
        names = [one for one in inspect.signature(function).parameters if one not in apart][:count]
        self._bind(inputs)
        return arrange(function.__name__, inputs, per, names)

    def _bind(self, inputs: Sequence[Given]) -> None:
        """Take up cron inputs that are new."""
        for one in leaves_of(inputs):
            if isinstance(one.node, Cron) and one.node.bind(self):
                self._add(one.node)
