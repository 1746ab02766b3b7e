"""Files by a foreach task each."""

from pathlib import Path

from metaflow import FlowSpec, Parameter, step


class Many(FlowSpec):
    source = Parameter("source")

    @step
    def start(self):
        self.files = sorted(str(path) for path in Path(self.source).iterdir())
        self.next(self.count, foreach="files")

    @step
    def count(self):
        self.words = len(Path(self.input).read_text().split())
        self.next(self.join)

    @step
    def join(self, inputs):
        self.words = sum(one.words for one in inputs)
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    Many()
