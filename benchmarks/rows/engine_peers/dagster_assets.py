"""Files by a partition each, in one warm process: prints seconds for all, one more, none more."""

import sys
import tempfile
import time
from pathlib import Path

import dagster as dg

SOURCE = Path(sys.argv[1])
files = dg.DynamicPartitionsDefinition(name="files")


@dg.asset(partitions_def=files, automation_condition=dg.AutomationCondition.eager())
def count(context: dg.AssetExecutionContext) -> dict:
    return {"words": len((SOURCE / context.partition_key).read_text().split())}


@dg.op(out=dg.DynamicOut())
def found(context):  # noqa: ARG001 - an op without inputs has it
    for path in sorted(SOURCE.iterdir())[1:-1]:
        yield dg.DynamicOutput(path, mapping_key=path.stem)


@dg.op
def words(path: Path) -> dict:
    return {"words": len(path.read_text().split())}


@dg.job
def every():
    found().map(words)


@dg.op
def first() -> int:
    return 1


@dg.op
def add(number: int) -> int:
    return number + 1


@dg.job
def three():
    add(add(first()))


def seconds(act) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


if __name__ == "__main__":
    names = sorted(path.name for path in SOURCE.iterdir())
    with tempfile.TemporaryDirectory() as place:
        instance = dg.DagsterInstance.local_temp(place)
        many = seconds(lambda: every.execute_in_process(instance=instance)) / (len(names) - 2)
        definitions = dg.Definitions(assets=[count])
        told = dg.evaluate_automation_conditions(definitions, instance)
        cursor = [told.cursor]

        def look() -> None:
            found = dg.evaluate_automation_conditions(definitions, instance, cursor=cursor[0])
            cursor[0] = found.cursor
            for name in found.get_requested_partitions(count.key):
                dg.materialize([count], instance=instance, partition_key=name)

        made, came = names[:-2], names[-2:]
        instance.add_dynamic_partitions("files", made)
        for name in made:  # done before, as far as it knows
            event = dg.AssetMaterialization(count.key, partition=name)
            instance.report_runless_asset_event(event)
        look()
        instance.add_dynamic_partitions("files", came[:1])
        look()
        instance.add_dynamic_partitions("files", came[1:])
        one = seconds(look)
        none = seconds(look)
        three.execute_in_process(instance=instance)
        runs = [seconds(lambda: three.execute_in_process(instance=instance)) for _ in range(5)]
        print("FIGURES", many, one, none, sorted(runs)[2])
