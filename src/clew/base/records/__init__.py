"""What travels between rooms and over the wire. One import place for all records."""

from clew.base.records.data import Change, CodeRef, Commit, Event, FileInfo, RepoInfo
from clew.base.records.differences import (
    ColumnChange,
    FileDiff,
    NumbersChange,
    RowChange,
    TableDiff,
    TextDiff,
)
from clew.base.records.models import (
    AliasMove,
    Check,
    Column,
    ColumnDrift,
    DriftReport,
    Endpoint,
    ModelVersion,
    Prediction,
    Revision,
    Signature,
    Verdict,
)
from clew.base.records.searching import BracketPlan, Importance, SearchPreview
from clew.base.records.versions import (
    BranchInfo,
    ColumnProfile,
    Found,
    Holder,
    Merge,
    MergeConflict,
    Removal,
    TableProfile,
    Tag,
)
from clew.base.records.views import (
    Applied,
    BrokenNow,
    ChangeStatus,
    Edge,
    ExplainResult,
    Explanation,
    Node,
    PredictResult,
    Status,
)
from clew.base.records.work import (
    ENDED_STATES,
    JOB_STATES,
    Datum,
    Experiment,
    ExperimentDetail,
    Job,
    JobCount,
    LogEntry,
    LogPage,
    MetricPoint,
    ParameterInfo,
    PipelineInfo,
    Plan,
    PlannedDatum,
    StepCost,
    StepInfo,
    Trial,
    UndeclaredRead,
)

__all__ = [
    "ENDED_STATES", "JOB_STATES", "AliasMove", "Applied", "BracketPlan", "BranchInfo", "BrokenNow",
    "Change", "ChangeStatus", "Check", "CodeRef", "Column", "ColumnChange", "ColumnDrift",
    "ColumnProfile", "Commit", "Datum", "DriftReport", "Edge", "Endpoint", "Event",
    "Experiment", "ExperimentDetail", "ExplainResult", "Explanation", "FileDiff",
    "FileInfo", "Found", "Holder",
    "Importance", "Job", "JobCount", "LogEntry", "LogPage", "Merge", "MergeConflict",
    "MetricPoint", "ModelVersion", "Node", "NumbersChange", "ParameterInfo", "PipelineInfo",
    "Plan", "PlannedDatum", "PredictResult", "Prediction", "Removal", "RepoInfo", "Revision",
    "RowChange", "SearchPreview", "Signature", "Status", "StepCost", "StepInfo", "TableDiff",
    "TableProfile", "Tag", "TextDiff", "Trial", "UndeclaredRead", "Verdict",
]  # fmt: skip
