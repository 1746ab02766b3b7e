"""Messages of a Kafka topic, in batches, at offsets that are kept with the commits.

Knows the confluent-kafka library, and is the only file that does.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from clew.base.errors import ClewError, Invalid, Unavailable
from clew.sources.definitions import Feed
from clew.sources.lines import Batch, json_or_text, line, text_or_base64
from clew.sources.reading import (
    Increment,
    Place,
    Position,
    Standing,
    Surroundings,
    extra_missing,
    file_name,
    plain_wait,
)

_POLL_S = 0.2
_REACH_S = 10.0


class _Options(msgspec.Struct, kw_only=True):
    topic: str
    servers: str
    group: str = "clew"
    start: str = "earliest"
    config: dict[str, str] = {}


class KafkaReader:
    """Reads all partitions of one topic. Keeps ``clew.sources.reading.Reader``.

    Partitions are assigned, not subscribed to: where reading goes on is the offset of the position
    alone, which moves in the transaction of the commit. The group is told of it afterwards, for
    tools that show its lag; nothing is read from there. Partitions that were added are found
    whenever a batch begins.
    """

    def __init__(self, name: str, feed: Feed, around: Surroundings) -> None:  # noqa: ARG002 - as every source is made
        self._options = msgspec.convert(feed.options, _Options)
        self._feed = feed
        self._around = around
        self._consumer: Any = None
        self._at: dict[int, int] = {}
        """The next offset of each partition that is assigned."""
        self._standing = Standing()

    def read(self, place: Place, stop: Callable[[], bool]) -> Increment | None:
        """See :meth:`Reader.read`."""
        with self._told():
            self._assign(place.position)
            if place.position.get("topic") != self._options.topic:  # where it began is kept first
                return Increment(position=self._position(self._at, place), more=True)
            batch = Batch(self._feed)
            offsets = dict(self._at)
            self._gather(batch, offsets, stop)
            self._stand(offsets)
        if not batch.items:
            return None
        content = b"".join(text for _, text in batch.items)
        self._at = offsets
        position = self._position(offsets, place)
        position["number"] += 1
        return Increment(
            puts={file_name(self._around.clock.now_us(), position["number"], ".jsonl"): content},
            position=position,
            items=len(batch.items),
            size_bytes=len(content),
            more=batch.full,
            message=f"{len(batch.items):,} messages of {self._options.topic}",
        )

    def committed(self, position: Position) -> None:
        """See :meth:`Reader.committed`: tell the group."""
        if self._consumer is None or not position.get("offsets"):
            return
        import confluent_kafka as kafka  # noqa: PLC0415 - an extra

        offsets = [
            kafka.TopicPartition(self._options.topic, int(partition), offset)
            for partition, offset in position["offsets"].items()
        ]
        self._consumer.commit(offsets=offsets, asynchronous=True)

    def standing(self) -> Standing:
        """See :meth:`Reader.standing`."""
        return self._standing

    def wait(self, timeout_s: float, stopped: Callable[[float], bool]) -> bool:
        """See :meth:`Reader.wait`. Reading itself waits."""
        return plain_wait(min(timeout_s, 0.05), stopped)

    def close(self) -> None:
        """See :meth:`Reader.close`."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None
            self._at = {}

    # ----------------------------------------------------------------------------------------

    def _gather(self, batch: Batch, offsets: dict[int, int], stop: Callable[[], bool]) -> None:
        while not batch.over(time.monotonic()) and not stop():
            found = self._consumer.consume(min(batch.room, 500), _POLL_S)
            for message in found:
                if message.error() is not None:
                    raise _failed(self._options.topic, str(message.error().str()))
                partition, offset = message.partition(), message.offset()
                if offset < offsets.get(partition, 0):
                    continue
                batch.add(f"{partition}:{offset}", _line(message), time.monotonic())
                offsets[partition] = offset + 1
            if not batch.items:
                return

    def _assign(self, position: Position) -> None:
        """Be at the position on every partition there is."""
        import confluent_kafka as kafka  # noqa: PLC0415 - an extra

        if self._consumer is None:
            self._consumer = self._connect(kafka)
        known = position.get("offsets", {}) if position.get("topic") == self._options.topic else {}
        topic = self._options.topic
        metadata = self._consumer.list_topics(topic, timeout=_REACH_S).topics.get(topic)
        if metadata is None or metadata.error is not None:
            raise _failed(topic, str(metadata.error) if metadata else "there is no such topic")
        wanted = {
            partition: int(known[str(partition)])
            if str(partition) in known
            else self._begin(kafka, partition, first=not known)
            for partition in metadata.partitions
        }
        if wanted != self._at:
            self._consumer.assign(
                [kafka.TopicPartition(topic, one, offset) for one, offset in wanted.items()]
            )
            self._at = wanted

    def _position(self, offsets: dict[int, int], place: Place) -> Position:
        return {
            "topic": self._options.topic,
            "offsets": {str(partition): offset for partition, offset in offsets.items()},
            "number": int(place.position.get("number", 0)),
        }

    def _begin(self, kafka: Any, partition: int, *, first: bool) -> int:
        """Where a partition that was never read begins; one that was added later at its start."""
        low, high = self._bounds(kafka, partition)
        return high if first and self._options.start == "latest" else low

    def _bounds(self, kafka: Any, partition: int) -> tuple[int, int]:
        place = kafka.TopicPartition(self._options.topic, partition)
        low, high = self._consumer.get_watermark_offsets(place, timeout=_REACH_S)
        return int(low), int(high)

    def _stand(self, offsets: dict[int, int]) -> None:
        import confluent_kafka as kafka  # noqa: PLC0415 - an extra

        high = {}
        for partition in offsets:
            place = kafka.TopicPartition(self._options.topic, partition)
            high[partition] = self._consumer.get_watermark_offsets(place, cached=True)[1]
        lag = sum(max(0, high[one] - offset) for one, offset in offsets.items() if high[one] >= 0)
        self._standing = Standing(lag=lag)

    def _connect(self, kafka: Any) -> Any:
        config = {name: self._around.secret(one) for name, one in self._options.config.items()}
        return kafka.Consumer(
            {
                **config,
                "bootstrap.servers": self._around.secret(self._options.servers),
                "group.id": self._options.group,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",
                "isolation.level": "read_committed",
                "logger": _silent(),
            }
        )

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            import confluent_kafka as kafka  # noqa: PLC0415 - an extra
        except ModuleNotFoundError as error:
            raise extra_missing("A source on Kafka", error.name, '"clew[kafka]"') from None
        try:
            yield
        except ClewError:
            self.close()
            raise
        except (kafka.KafkaException, kafka.KafkaError) as error:
            self.close()
            said = error.args[0] if error.args else error
            raise _failed(self._options.topic, str(getattr(said, "str", lambda: said)())) from None
        except (ValueError, TypeError) as error:
            raise Invalid(
                "source.queue",
                f"Kafka cannot be used so: {error}.",
                hint="Check config= of the source.",
            ) from None


def _silent() -> logging.Logger:
    return logging.getLogger("clew.sources.kafka")


def _failed(topic: str, said: str) -> Unavailable:
    return Unavailable(
        "source.queue",
        f"The topic {topic} cannot be read: {said.rstrip('.')}.",
        hint="Check that the brokers run, the name of the topic, and the rights of this user.",
    )


def _line(message: Any) -> bytes:
    key, headers = message.key(), message.headers() or []
    kind, at_ms = message.timestamp()
    told: dict[str, object] = {
        "partition": message.partition(),
        "offset": message.offset(),
        "timestamp_ms": at_ms if kind else None,
        "key": None if key is None else text_or_base64(key),
        "value": json_or_text(message.value()),
    }
    if headers:
        told["headers"] = {name: text_or_base64(value or b"") for name, value in headers}
    return line(told)
