"""The one tree of errors that Headrace raises on purpose.

    HeadraceError
    ├── TransientError            trying again may help: the supervisor restarts with back-off
    │   ├── AlertNotTakenError
    │   ├── BrokerUnavailableError
    │   │   └── BrokerRefusedError
    │   ├── InstanceUnavailableError
    │   ├── ClusterUnavailableError
    │   ├── DatabaseUnavailableError
    │   │   └── DatabaseRefusedError
    │   ├── NotReadyError
    │   ├── QueryFailedError
    │   ├── RegistryUnavailableError
    │   ├── RunFailedError
    │   ├── ServiceEndedError
    │   └── StoreUnavailableError
    └── TerminalError             trying again cannot help: the group waits for a person
        ├── SettingError
        ├── RegistryRefusedError
        ├── SchemaNotAcceptedError
        ├── UnknownSchemaError
        ├── TopicSpecError
        ├── CatalogueError
        ├── UsageError
        ├── MissingTopicError
        ├── LostOffsetsError
        ├── LostCommitsError
        ├── CheckpointMismatchError
        ├── PlanChangedError
        ├── TaskSlotsError
        ├── TableSchemaError
        ├── GroupOwnedError
        ├── SinkTargetError
        ├── StorageError
        ├── MissingDependencyError
        └── InterruptedByUserError

Every message is one sentence that names the thing and one that says what to do, so that it can be shown to
a person as it is, without a stack trace.
"""


class HeadraceError(Exception):
    """Root of the tree. Never raised itself."""


class TransientError(HeadraceError):
    """The same call may succeed later without anybody changing anything."""


class TerminalError(HeadraceError):
    """The same call fails until a person changes something; the message says what."""


class AlertNotTakenError(TransientError):
    """A channel (a topic, a webhook, a mail server) did not take what it was told of alerts: it is told again."""


class BrokerUnavailableError(TransientError):
    """No Kafka broker answered within the time limit."""


class BrokerRefusedError(BrokerUnavailableError):
    """A Kafka broker refuses this client: its certificate or account, or because a right is missing.

    It may take it later without anybody here changing anything: a right is granted, a certificate renewed.
    """


class InstanceUnavailableError(TransientError):
    """The storage of Dagster's instance did not answer: who owns a stream group is not known."""


class ClusterUnavailableError(TransientError):
    """The Spark master gave the application no executor within the time limit."""


class DatabaseUnavailableError(TransientError):
    """The database that sinks write did not answer, or has ended the connection."""


class DatabaseRefusedError(DatabaseUnavailableError):
    """The database that sinks write refuses this client: its account, its certificate, or because a right is missing.

    It may take it later without anybody here changing anything: a right is granted, a password set.
    """


class QueryFailedError(TransientError):
    """A streaming query ended with an error that is not known to be permanent."""


class NotReadyError(TransientError):
    """What a command asks for cannot be done yet: something else has to come, or to be finished, first."""


class RunFailedError(TransientError):
    """A Dagster run that a command has started failed; its page says why."""


class ServiceEndedError(TransientError):
    """One of the platform's processes ended by itself; the message names its log or its output."""


class RegistryUnavailableError(TransientError):
    """The schema registry did not answer, or asked for patience."""


class StoreUnavailableError(TransientError):
    """The object store of the lakehouse did not answer, or asked for patience."""


class RegistryRefusedError(TerminalError):
    """The schema registry refuses: who asks, how, or what."""


class SchemaNotAcceptedError(TerminalError):
    """The schema registry does not register a schema: not compatible, or none at all. Its words are in the message."""


class UnknownSchemaError(TerminalError):
    """The schema registry has no schema of an id."""


class SettingError(TerminalError):
    """A setting has a value that cannot be used; the message names the setting."""


class TopicSpecError(TerminalError):
    """A topic's file cannot be used. `field` (or record) or `argument` of the topic is wrong: its line is found so."""

    def __init__(self, message: str, *, field: str = "", argument: str = "") -> None:
        super().__init__(message)
        self.field = field
        self.argument = argument


class CatalogueError(TerminalError):
    """The file of a group or of a stream names what it cannot have, or what another file has."""


class UsageError(TerminalError):
    """A command was given an option, a file or a name that cannot be used; the message names it."""


class MissingTopicError(TerminalError):
    """A topic does not exist on a broker that is not ours to change."""


class LostOffsetsError(TerminalError):
    """Kafka no longer holds offsets that a query has not read."""


class LostCommitsError(TerminalError):
    """A table's log no longer holds commits that a query has not read."""


class CheckpointMismatchError(TerminalError):
    """A checkpoint and the table it feeds disagree about what has been written."""


class PlanChangedError(TerminalError):
    """A query's code does not fit the state that its checkpoint holds."""


class TaskSlotsError(TerminalError):
    """A real-time query would have fewer task slots than its topic has partitions: some would never be read."""


class TableSchemaError(TerminalError):
    """A table's columns do not fit its spec, and differ in more than new columns."""


class GroupOwnedError(TerminalError):
    """Another live process owns the stream group."""


class SinkTargetError(TerminalError):
    """A sink's table in the database is not as the sink has made it, is another's, or cannot hold the rows."""


class StorageError(TerminalError):
    """A folder or disk cannot be written (permissions, no space)."""


class MissingDependencyError(TerminalError):
    """Something that must be installed (Java, a jar) is missing or of the wrong version."""


class InterruptedByUserError(TerminalError):
    """A person or a service manager stopped a command before its end."""
