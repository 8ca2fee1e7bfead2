"""Stand-ins for loggers of Lightning, which configs of tests name; each keeps what it was called with."""

import time

CALLS: list[tuple] = []


class Plain:
    """Takes what every logger of Lightning takes."""

    def __init__(self, failing: str = "", hangs: float = 0.0, **arguments):
        self.failing, self.hangs = failing.split(), hangs
        self._called("init", arguments)

    def _called(self, name, *arguments):
        CALLS.append((name, *arguments))
        if name in self.failing:
            raise OSError(28, "No space left on device")
        if name == "finalize":
            time.sleep(self.hangs)

    def log_hyperparams(self, params):
        self._called("log_hyperparams", params)

    def log_metrics(self, metrics, step=None):
        self._called("log_metrics", metrics, step)

    def finalize(self, status):
        self._called("finalize", status)


class WithTables(Plain):
    """Has a method for tables, as Lightning's logger of wandb."""

    def log_table(self, key, columns=None, data=None):
        self._called("log_table", key, columns, data)


class MLFlowLogger(Plain):
    """As Lightning's logger of MLflow: an id of its own and a client, here itself."""

    tracking_uri = "sqlite:///here/mlflow.db"

    def __init__(self, run_id: str | None = None, failing: str = "", **arguments):
        self.run_id = run_id or "new"
        self.files = []
        super().__init__(failing, run_id=run_id, **arguments)

    @property
    def experiment(self):
        return self

    def set_tag(self, run_id, key, value):
        self._called("set_tag", run_id, key, value)

    def list_artifacts(self, run_id):
        return [type("File", (), {"path": name}) for name in self.files]

    def log_table(self, run_id, data, artifact_file):
        self.files.append(artifact_file)
        self._called("log_table", run_id, data, artifact_file)


def calls(name):
    """The arguments of each call by this name."""
    return [call[1:] for call in CALLS if call[0] == name]
