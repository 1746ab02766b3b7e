"""Which flights will arrive more than 30 minutes late, judged three hours before departure?"""

import polars as pl
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

import clew

WEATHER = ["temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib"]
WORDS = ["carrier", "origin", "dest"]
NUMBERS = ["weekday", "minute", "distance", *WEATHER]
BOOSTING = {"categorical_features": [0, 1, 2], "warm_start": True, "early_stopping": False}

late = clew.Pipeline("late-flights")
flights = late.source("flights")
weather = late.source("weather")


@late.step(flights.glob("/*.parquet"), per="file")
def clean(month: pl.DataFrame) -> pl.DataFrame:
    """Flights that arrived, with what the schedule says of them and how late they were."""
    hour, minute = pl.col("time_hour"), pl.col("hour") * 60 + pl.col("minute")
    landed = month.filter(pl.col("arr_delay").is_not_null())
    plan = {"departs": hour, "date": hour.dt.date(), "weekday": hour.dt.weekday(), "minute": minute}
    return landed.select(*WORDS, "distance", "arr_delay", **plan)


@late.expect(clean)
def plausible(t: clew.Table) -> None:
    t.columns("carrier", "origin", "dest", "departs").not_null()
    t.column("origin").in_set(["EWR", "JFK", "LGA"])
    t.column("distance").between(10, 5500)
    t.column("arr_delay").between(-120, 1500)
    t.row_count(min=1000)


@late.step(clean, weather)
def features(clean: pl.DataFrame, weather: pl.DataFrame) -> pl.DataFrame:
    """Each flight with the latest weather that was known three hours before it left."""
    seen = weather.select("origin", *WEATHER, asof="time_hour").sort("asof")
    asked = clean.with_columns(asof=pl.col("departs") - pl.duration(hours=3)).sort("asof")
    joined = asked.join_asof(seen, on="asof", by="origin", tolerance="6h", check_sortedness=False)
    return joined.select("date", *WORDS, *NUMBERS, late=pl.col("arr_delay") > 30)


@late.train(
    features,
    target="late",
    test=clew.holdout(0.25, by="date", grow=True),
    search=clew.asha(metric="roc_auc", mode="max", trials=9, max_steps=9),
    space={"learning_rate": clew.loguniform(0.02, 0.3), "max_leaf_nodes": clew.randint(8, 64)},
)
def model(data: pl.DataFrame, trial: clew.Trial) -> object:
    """Gradient boosting, ten trees a step; the last fifth of the days judges the trials."""
    cut = data["date"].unique().sort()[-data["date"].n_unique() // 5]
    fit, judge = data.filter(pl.col("date") < cut), data.filter(pl.col("date") >= cut)
    encode = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = make_column_transformer((encode, WORDS), ("passthrough", NUMBERS))
    boost = HistGradientBoostingClassifier(**trial.params, **BOOSTING, random_state=trial.seed)
    forest = trial.restore() or make_pipeline(columns, boost)
    for step in trial.steps():
        forest.set_params(histgradientboostingclassifier__max_iter=10 * step)
        forest.fit(fit.select(WORDS + NUMBERS), fit["late"])
        chances = forest.predict_proba(judge.select(WORDS + NUMBERS))[:, 1]
        trial.report(step, roc_auc=roc_auc_score(judge["late"], chances))
    return forest


@late.gate(model)
def better(candidate: clew.Candidate) -> None:
    candidate.at_least("roc_auc", 0.65)
    candidate.beats_champion("roc_auc", margin=-0.01)
    candidate.slices("origin", metric="roc_auc", worst_gap=0.12)


late.endpoint("late-flights", model, rollout=clew.canary(steps=[10, 50, 100], max_requests=60))
late.monitor("late-flights", drift=clew.drift(threshold=0.2), retrain=True)
