"""Why: from any thing back to the raw files it came from, or on to all that came from it.

Lineage keeps the coarse graph; this adds what other rooms know of finer things (predictions,
datums, files) and says it in sentences. It changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from clew.base.address import Address, parse_address
from clew.base.errors import Invalid, NotFound
from clew.base.ids import PREDICTION_ID_LENGTH, SHORT_LENGTH, short
from clew.base.records import Commit, Datum, Edge, Explanation, FileInfo, Node, Prediction
from clew.base.records.knowing import Cause
from clew.workspace.reasoning import told_of
from clew.workspace.rooms import Rooms

DATUMS_SHOWN = 100
PREDICTIONS_SHOWN = 5
HISTORY = 1000
MANY = 2000


class Thread(Struct, kw_only=True):
    """What has been found so far: nodes in reading order, and edges from cause to effect."""

    nodes: dict[str, Node] = field(default_factory=dict)
    edges: dict[tuple[str, str, str], Edge] = field(default_factory=dict)

    def add(self, node: Node) -> None:
        """A node, if it is new."""
        self.nodes.setdefault(node.id, node)

    def tie(self, source: str, target: str, label: str) -> None:
        """An edge, if it is new."""
        self.edges.setdefault(
            (source, target, label), Edge(source=source, target=target, label=label)
        )

    def take(self, found: tuple[list[Node], list[Edge]]) -> None:
        """What a walk found."""
        for node in found[0]:
            self.add(node)
        for edge in found[1]:
            self.tie(edge.source, edge.target, edge.label)

    def of_kind(self, kind: str) -> list[Node]:
        """Nodes of a kind, in reading order."""
        return [node for node in self.nodes.values() if node.kind == kind]


def explain(rooms: Rooms, subject: str, *, down: bool) -> Explanation:
    """The thread of one thing, up to its sources or down to what came from it.

    Raises:
        NotFound: ``why.unknown`` where nothing has this id or address.
        Invalid: ``id.ambiguous``, naming the candidates.
    """
    start, thread, roots = _start(rooms, subject, down=down)
    thread.add(start)
    for root in roots:
        thread.take(rooms.lineage.walk(root, "down" if down else "up", limit=MANY))
    if down:
        _drop_checkpoints(rooms, thread)
        _add_predictions(rooms, thread)
    else:
        _add_datums(rooms, thread)
    nodes = tuple(node for node in thread.nodes.values() if node.id != start.id)
    return Explanation(
        subject=start,
        direction="down" if down else "up",
        nodes=nodes,
        edges=tuple(thread.edges.values()),
        sentences=tuple(
            _sentences_down(thread)
            if down
            else (*told_of(rooms, start, thread.nodes.values()), *_sentences_up(start, thread))
        ),
        causes=() if down else _causes(rooms, start, thread),
    )


def _causes(rooms: Rooms, start: Node, thread: Thread) -> tuple[Cause, ...]:
    """Of the job that is asked for, or of the one nearest to what is."""
    jobs = [start] if start.kind == "job" else thread.of_kind("job")
    return tuple(rooms.pipelines.causes(jobs[0].id)) if jobs else ()


# where to start ---------------------------------------------------------------------------------


def _start(rooms: Rooms, subject: str, *, down: bool) -> tuple[Node, Thread, list[str]]:
    """The node that is meant, what is known around it, and the nodes to walk from."""
    if "@" in subject or "/" in subject:
        return _from_address(rooms, subject, down=down)
    if len(subject) == PREDICTION_ID_LENGTH and subject.startswith("p"):
        prediction = rooms.serving.find_prediction(subject)
        if prediction is not None:
            return _from_prediction(rooms, prediction)
    found = rooms.lineage.find(subject)
    if len(found) > 1 and not any(node.id == subject for node in found):
        known = ", ".join(f"{node.kind} {node.id}" for node in found[:5])
        raise Invalid(
            "id.ambiguous",
            f"{subject!r} is the beginning of several ids: {known}.",
            hint="Give more characters.",
        )
    if found:
        node = next((node for node in found if node.id == subject), found[0])
        return node, Thread(), [node.id]
    return (
        _from_datum(rooms, subject)
        or _from_digest(rooms, subject, down=down)
        or _from_short_prediction(rooms, subject)
        or _from_change(rooms, subject)
    )


def _from_address(rooms: Rooms, subject: str, *, down: bool) -> tuple[Node, Thread, list[str]]:
    address = parse_address(subject)
    if address.path == "/" and rooms.repos.get(address.repo).kind == "model":
        version = _version(rooms, subject)
        if version is not None:
            return _known(rooms, version), Thread(), [version]
    commit = rooms.repos.resolve(address)
    if address.path == "/":
        return _known(rooms, commit.id), Thread(), [commit.id]
    return _from_file(rooms, address, commit, down=down)


def _version(rooms: Rooms, subject: str) -> str | None:
    """The id of ``model@3`` or ``model@champion``; None where that names a commit."""
    try:
        return rooms.models.get(subject).id
    except NotFound:
        return None


def _from_file(
    rooms: Rooms, address: Address, commit: Commit, *, down: bool
) -> tuple[Node, Thread, list[str]]:
    found = rooms.repos.get_file(commit, address.path)
    thread = Thread()
    start = _file_node(address.repo, found, commit.global_id)
    roots = [c.id for c in _commits_with(rooms, commit, found)]
    for root in roots:
        thread.add(_known(rooms, root))
        if down:
            thread.tie(start.id, root, "is in")
        else:
            thread.tie(root, start.id, "committed in")
    return start, thread, roots


def _commits_with(rooms: Rooms, commit: Commit, file: FileInfo) -> list[Commit]:
    """Commits of the branch that hold this very file, newest first."""
    log = rooms.repos.log(commit.repo, branch=commit.branch, limit=HISTORY)
    holding = []
    for one in log:
        if one.state == "finished":
            there = rooms.store.get(one.tree, file.path)
            if there is not None and there.digest == file.digest:
                holding.append(one)
    return holding or [commit]


def _prediction_node(rooms: Rooms, prediction: Prediction) -> Node:
    return Node(
        kind="prediction",
        id=prediction.id,
        title=f"{prediction.endpoint} at {prediction.at:%Y-%m-%d %H:%M:%S} UTC",
        global_id=prediction.global_id,
        detail={
            "latency_ms": round(prediction.latency_ms, 2),
            "inputs": prediction.inputs,
            "outputs": prediction.outputs,
            "arm": prediction.arm,
            "propensity": prediction.propensity,
            "feedback": msgspec.to_builtins(rooms.serving.feedback_on(prediction.id)),
            **({"part_of": prediction.part_of} if prediction.part_of else {}),
            **({"parts": list(prediction.parts)} if prediction.parts else {}),
        },
    )


def _from_prediction(rooms: Rooms, prediction: Prediction) -> tuple[Node, Thread, list[str]]:
    node = _prediction_node(rooms, prediction)
    thread = Thread()
    thread.add(_known(rooms, prediction.revision))
    thread.tie(prediction.revision, node.id, "answered")
    roots = [prediction.revision]
    for part in prediction.parts:
        roots += _add_part(rooms, thread, part, node.id)
    return node, thread, roots


def _add_part(rooms: Rooms, thread: Thread, part: str, whole: str) -> list[str]:
    """The prediction of a node of a graph, where the log has it; what to walk from then."""
    found = rooms.serving.find_prediction(part)
    if found is None:
        return []
    node, inner, roots = _from_prediction(rooms, found)
    thread.add(node)
    thread.take((list(inner.nodes.values()), list(inner.edges.values())))
    thread.tie(node.id, whole, "part of")
    return roots


def _from_datum(rooms: Rooms, subject: str) -> tuple[Node, Thread, list[str]] | None:
    found = rooms.pipelines.find_datums(subject)
    if not found:
        return None
    datum = found[0]
    thread = Thread()
    node = _datum_node(datum, "")
    _add_datum(thread, datum, "")
    job = datum.made_by or datum.job
    thread.add(_known(rooms, job))
    thread.tie(job, node.id, "ran")
    return node, thread, [job]


def _from_digest(
    rooms: Rooms, subject: str, *, down: bool
) -> tuple[Node, Thread, list[str]] | None:
    """A file by the beginning of its digest, where the head of some branch holds it."""
    wanted = subject.rpartition(":")[2]
    for repo in rooms.repos.list():
        if repo.kind not in {"source", "output"} or len(wanted) < SHORT_LENGTH:
            continue
        for head in filter(None, repo.branches.values()):
            commit = rooms.repos.commit_by_id(head)
            for entry in rooms.repos.entries(commit):
                if entry.digest.partition(":")[2].startswith(wanted):
                    address = Address(repo=repo.name, ref=commit.branch, path=entry.path)
                    return _from_file(rooms, address, commit, down=down)
    return None


def _from_short_prediction(rooms: Rooms, subject: str) -> tuple[Node, Thread, list[str]] | None:
    prediction = rooms.serving.find_prediction(subject)
    return None if prediction is None else _from_prediction(rooms, prediction)


def _from_change(rooms: Rooms, subject: str) -> tuple[Node, Thread, list[str]]:
    try:
        global_id = rooms.lineage.change(subject)
    except NotFound:
        raise NotFound(
            "why.unknown",
            f"Nothing is known of {subject!r}.",
            hint="Give an id of a prediction, revision, model version, verdict, trial, job, commit "
            "or change, or a file as repo@ref:/path.",
        ) from None
    node = Node(kind="change", id=global_id, title="a change", global_id=global_id)
    thread = Thread()
    members = rooms.lineage.of_change(global_id)
    for one in members:
        thread.add(one)
        thread.tie(one.id, node.id, "belongs to")
    return node, thread, [one.id for one in members]


def _known(rooms: Rooms, identifier: str) -> Node:
    return rooms.lineage.get(identifier) or Node(
        kind="thing", id=identifier, title="", global_id=""
    )


# finer things -----------------------------------------------------------------------------------


def _add_datums(rooms: Rooms, thread: Thread) -> None:
    for job in thread.of_kind("job"):
        known = rooms.pipelines.job(job.id)
        if known.kind != "step":
            continue
        shown = rooms.pipelines.datums(job.id, limit=DATUMS_SHOWN)
        for datum in shown:
            _add_datum(thread, datum, job.global_id)
            thread.tie(datum.id, job.id, "reused" if datum.state == "skipped" else "ran")
        if known.total > len(shown):
            rest = _more(job, "datums", known.total - len(shown), "more datums")
            thread.add(rest)
            thread.tie(rest.id, job.id, "ran")


def _more(of: Node, kind: str, count: int, noun: str) -> Node:
    """What stands for so many that are not shown."""
    return Node(
        kind=kind,
        id=f"{of.id}:more",
        title=f"and {count:,} {noun}",
        global_id=of.global_id,
        detail={"count": count},
    )


def _add_datum(thread: Thread, datum: Datum, global_id: str) -> None:
    thread.add(_datum_node(datum, global_id))
    for place, digest in datum.inputs:
        repo, _, path = place.partition(":")
        file = FileInfo(path=path, kind="file", digest=digest, size_bytes=0)
        node = _add_file(thread, repo, file, global_id)
        thread.tie(node.id, datum.id, "read")


def _datum_node(datum: Datum, global_id: str) -> Node:
    names = " ".join(path.rpartition("/")[2] for path, _ in datum.inputs[:3])
    more = f" and {len(datum.inputs) - 3} more" if len(datum.inputs) > 3 else ""
    return Node(
        kind="datum",
        id=datum.id,
        title=f"{names}{more}",
        global_id=global_id,
        detail={"state": datum.state, "reason": datum.reason, "made_by": datum.made_by},
    )


def _add_file(thread: Thread, repo: str, file: FileInfo, global_id: str) -> Node:
    """A file is known by its bytes; another one with the same bytes by its address."""
    node = _file_node(repo, file, global_id)
    known = thread.nodes.get(node.id)
    if known is not None and known.title != node.title:
        node = replace(node, id=node.title)
    thread.add(node)
    return node


def _file_node(repo: str, file: FileInfo, global_id: str) -> Node:
    return Node(
        kind="file",
        id=file.digest.partition(":")[2] or f"{repo}:{file.path}",
        title=f"{repo}:{file.path}",
        global_id=global_id,
        detail={"digest": file.digest},
    )


def _drop_checkpoints(rooms: Rooms, thread: Thread) -> None:
    """Checkpoints are many and say no more than their trial does; each can be asked for itself."""
    kept = {repo.name for repo in rooms.repos.list("checkpoint")}
    for node in thread.of_kind("commit"):
        if node.title.partition("@")[0] in kept:
            del thread.nodes[node.id]
    for key in [key for key in thread.edges if not {key[0], key[1]} <= thread.nodes.keys()]:
        del thread.edges[key]


def _add_predictions(rooms: Rooms, thread: Thread) -> None:
    for revision in thread.of_kind("revision"):
        count = rooms.serving.count_of_revision(revision.id)
        if not count:
            continue
        latest = rooms.serving.predictions_of_revision(revision.id, PREDICTIONS_SHOWN)
        for one in latest:
            node = _prediction_node(rooms, one)
            thread.add(node)
            thread.tie(revision.id, node.id, "answered")
            _add_whole(rooms, thread, one)
        more = count - len(latest)
        if more > 0:
            rest = _more(revision, "predictions", more, "earlier predictions")
            thread.add(rest)
            thread.tie(revision.id, rest.id, "answered")


def _add_whole(rooms: Rooms, thread: Thread, part: Prediction) -> None:
    """The prediction of the graph that a node was asked for, and so on upwards."""
    whole = rooms.serving.find_prediction(part.part_of) if part.part_of else None
    if whole is None:
        return
    node = _prediction_node(rooms, whole)
    thread.add(node)
    thread.add(_known(rooms, whole.revision))
    thread.tie(whole.revision, node.id, "answered")
    thread.tie(part.id, node.id, "part of")
    _add_whole(rooms, thread, whole)


# sentences --------------------------------------------------------------------------------------


def _sentences_up(start: Node, thread: Thread) -> Iterable[str]:
    if start.kind == "prediction":
        for revision in thread.of_kind("revision"):
            if (revision.id, start.id, "answered") in thread.edges:
                yield f"{start.id} was answered by {revision.title} ({short(revision.id)})."
        parts = [source for source, target, label in thread.edges
                 if target == start.id and label == "part of"]  # fmt: skip
        if parts:
            yield f"It was put together from {_count(len(parts), 'prediction')} of its nodes."
    for version in thread.of_kind("model_version")[: 1 if start.kind != "prediction" else None]:
        yield f"The model is {version.title} ({short(version.id)})."
    for verdict in thread.of_kind("verdict")[:1]:
        yield f"It was judged: {verdict.title} ({short(verdict.id)})."
    files = {node.title for node in _raw_files(thread)}
    if files:
        shown = ", ".join(sorted(files)[:6])
        more = f" and {len(files) - 6} more" if len(files) > 6 else ""
        hidden = _hidden(thread, "datums")
        rest = f", and to those of {_count(hidden, 'datum')} that are not shown" if hidden else ""
        yield f"It goes back to {_count(len(files), 'raw file')}: {shown}{more}{rest}."


def _raw_files(thread: Thread) -> list[Node]:
    """Files of repos that no job on this thread has written."""
    made = {
        thread.nodes[target].title.partition("@")[0]
        for source, target, _ in thread.edges
        if source in thread.nodes
        and target in thread.nodes
        and thread.nodes[source].kind == "job"
        and thread.nodes[target].kind == "commit"
    }
    return [node for node in thread.of_kind("file") if node.title.partition(":")[0] not in made]


def _sentences_down(thread: Thread) -> Iterable[str]:
    versions, revisions = thread.of_kind("model_version"), thread.of_kind("revision")
    answered = len(thread.of_kind("prediction")) + _hidden(thread, "predictions")
    counts = (
        _count(len(thread.of_kind("commit")), "commit"),
        _count(len(versions), "model version"),
        _count(len(revisions), "revision"),
    )
    yield f"It touched {', '.join(counts)} and {_count(answered, 'prediction')}."


def _hidden(thread: Thread, kind: str) -> int:
    """How many are told of by their number alone."""
    return sum(int(str(node.detail.get("count", 0))) for node in thread.of_kind(kind))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
