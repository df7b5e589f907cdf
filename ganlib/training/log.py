"""The files that a run writes. A resumed run continues its CSV files as if it had not stopped."""

import csv
import io
import json
import time
from dataclasses import asdict

import torch

from ganlib.atomic_write import atomic_write, names_file


def write_config(path, run):
    """config.json: the stage, the model, and the settings of the run, each with the first step trained with them.

    Raises:
        ValueError: the file at this path is not the config.json of a run. It stays unchanged.
    """
    try:
        if path.exists() and not json.loads(path.read_text()).keys() >= {"model", "train"}:
            raise ValueError("no model and train in it")
    except (ValueError, AttributeError) as error:
        raise ValueError(
            f"{path} is not of a training run ({error}): move it away, or choose another folder (--out)"
        ) from error
    with atomic_write(path) as part:
        settings = {"stage": run.STAGE, "model": asdict(run.bare_model.config), "train": run.configs}
        part.write_text(json.dumps(settings, indent=1))


class Record:
    """A CSV file of numbers with a column "step". When opened again, it keeps the rows up to a step and appends.

    Later rows, and a last line that is incomplete, are of steps that were lost when a run was killed.

    Args:
        path: of the file.
        columns: names, "step" among them.
        step: of the run, in its checkpoint.

    Raises:
        ValueError: the file is damaged, or has other columns. It stays unchanged.
    """

    def __init__(self, path, columns, step):
        rows = _read(path, columns, step) if path.exists() else []
        with atomic_write(path) as part, open(part, "w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
        self.path, self.file = path, open(path, "a", newline="")
        self.writer = csv.DictWriter(self.file, columns)

    def write(self, *rows):
        """Append rows, dicts, and hand them to the operating system at once."""
        with names_file(self.path):
            self.writer.writerows(rows)
            self.file.flush()

    def close(self):
        with names_file(self.path):
            self.file.close()


def _read(path, columns, step):
    """Rows of a CSV file up to a step, as lists of {column: text}."""
    line = 1
    try:
        data = path.read_bytes()
        reader = csv.DictReader(io.StringIO(data[: data.rfind(b"\n") + 1].decode(), newline=""))
        if list(reader.fieldnames or columns) != list(columns):
            raise ValueError("it has other columns")
        rows = []
        for row in reader:
            line = reader.line_num
            if len(row) != len(columns):
                raise ValueError("too many values")
            numbers = {name: float(row[name]) for name in columns}  # TypeError where a value is missing
            if numbers["step"] <= step:
                rows.append(row)
    except (ValueError, TypeError, csv.Error) as error:
        raise ValueError(
            f"{path} cannot be gone on with (line {line}: {error}): repair it, move it away to begin a new one, or "
            "choose another folder (--out)"
        ) from error
    return rows


class Log:
    """log.csv: a row every few steps, averaged over them.

    Args:
        path: of the file.
        run: Run, which gives the columns and the step at which it continues.
        recent: values of the steps since the last row, from the checkpoint.
        images_per_step: of all processes together.
    """

    def __init__(self, path, run, recent, images_per_step):
        columns = ("step", *run.COLUMNS, "learning_rate", "skipped", "images_per_second")
        self.record = Record(path, columns, run.step)
        self.run, self.images_per_step = run, images_per_step
        self.recent, self.steps, self.since = list(recent), 0, time.monotonic()

    def add(self, values, learning_rate):
        """Take the values of the step that was just made (None where it was skipped).

        Returns:
            The row as a dict where one is due, else None. A column is nan where no step had a value.
        """
        self.steps += 1
        if values is not None:
            self.recent.append(values)
        if self.run.step % self.run.config.log_every or not self.recent:
            return None
        row = {"step": self.run.step}
        for name in self.run.COLUMNS:
            seen = torch.tensor([values[name] for values in self.recent], dtype=torch.float64)
            row[name] = round(seen.nanmean().item(), 5)
        row |= {"learning_rate": round(learning_rate, 8), "skipped": self.run.skipped}
        row["images_per_second"] = round(self.steps * self.images_per_step / (time.monotonic() - self.since), 1)
        self.record.write(row)
        self.recent, self.steps, self.since = [], 0, time.monotonic()
        return row

    def close(self):
        self.record.close()
