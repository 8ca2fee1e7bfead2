"""Stand-ins for loggers of Lightning, named in the configs of tests; each call is kept in `CALLS`."""

import time

CALLS: list[tuple] = []


class Plain:
    """Has the methods that every logger of Lightning has."""

    def __init__(self, failing: str = "", hangs: float = 0.0, **arguments):
        self.failing, self.hangs = failing.split(), hangs
        self._record_call("init", arguments)

    def _record_call(self, name, *arguments):
        CALLS.append((name, *arguments))
        if name in self.failing:
            raise OSError(28, "No space left on device")
        if name == "finalize":
            time.sleep(self.hangs)

    def log_hyperparams(self, params):
        self._record_call("log_hyperparams", params)

    def log_metrics(self, metrics, step=None):
        self._record_call("log_metrics", metrics, step)

    def finalize(self, status):
        self._record_call("finalize", status)


class WithTables(Plain):
    """Has a method for tables, as Lightning's logger of wandb."""

    def log_table(self, key, columns=None, data=None):
        self._record_call("log_table", key, columns, data)


class MLFlowLogger(Plain):
    """Has an id of its own and a client (here itself), like Lightning's logger of MLflow."""

    tracking_uri = "sqlite:///here/mlflow.db"

    def __init__(self, run_id: str | None = None, failing: str = "", **arguments):
        self.run_id = run_id or "new"
        self.files = []
        super().__init__(failing, run_id=run_id, **arguments)

    @property
    def experiment(self):
        return self

    def set_tag(self, run_id, key, value):
        self._record_call("set_tag", run_id, key, value)

    def list_artifacts(self, run_id):
        return [type("File", (), {"path": name}) for name in self.files]

    def log_table(self, run_id, data, artifact_file):
        self.files.append(artifact_file)
        self._record_call("log_table", run_id, data, artifact_file)


def calls(name):
    """The arguments of each call by this name."""
    return [call[1:] for call in CALLS if call[0] == name]
