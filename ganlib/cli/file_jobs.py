"""Match output files to input files, and process all of them, in one or more processes."""

import collections
import contextlib
import logging
import os
import threading
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from pathlib import Path

from ganlib.atomic_write import remove_parts
from ganlib.folders import visible_files

log = logging.getLogger(__name__)

STREAM = "-"  # as a path: standard input or output


class CommandError(Exception):
    """Says on one line what was wrong and what to do."""


def check_name(output, suffixes, new_suffix):
    """CommandError where an output has the suffix of an input, such as photo.png for a .gic file."""
    if Path(output).suffix.lower() in suffixes:
        raise CommandError(f"{output}: what is written is a {new_suffix} file, so let its name end in {new_suffix}")


def is_folder(source, output):
    """Whether the output for an input is a folder; it need not exist yet."""
    return Path(source).is_dir() or Path(output).is_dir() or str(output).endswith(("/", os.sep))


def jobs(
    source,
    output,
    suffixes,
    new_suffix,
    force=False,
    resume=False,
    tell_others=False,
    beside=None,
    unreadable=None,
):
    """Pairs of (input file, output file) for a file or a folder.

    A folder keeps its tree below `output`. Two inputs that differ in their suffix alone keep it: a.jpg and a.png
    become a.jpg.gic and a.png.gic.

    Args:
        source: path of a file, or of a folder that is searched with its sub-folders. Names with a dot in front are
            left out, and files whose suffix is not one of `suffixes`.
        output: path; with None it is beside the input.
        new_suffix: of the outputs.
        force: overwrite outputs that exist.
        resume: skip an input whose output exists and is not older. An older output may be the original that the input
            was made from: without `force` it is refused.
        tell_others: log the other files in the folder.
        beside: function that gives, for an output, the path of a second file that may be written beside it.
        unreadable: list that collects an OSError for each thing that cannot be read; if None, the first is raised.

    Raises:
        CommandError: there is no input; an output exists, or is an input, or would be written twice.
        OSError: a folder cannot be read.
    """
    source = Path(source)
    if not source.exists():
        raise CommandError(f"{source} does not exist")
    if source.is_dir():
        target = Path(output) if output else source
        if target.exists() and not target.is_dir():
            raise CommandError(f"{target} is a file: the output of a folder is a folder")
        files, others = _searched(source, suffixes, new_suffix, unreadable)
        if others and tell_others:
            kinds = ", ".join(f"{kind} ({count})" for kind, count in sorted(others.items()))
            log.info("left out %d files of other kinds: %s", others.total(), kinds)
        if not files and not unreadable:
            raise CommandError(f"no file in {source} ends in {', '.join(sorted(suffixes))}")
        pairs = _named_apart(files, source, target, new_suffix)
    else:
        target = Path(output) if output else source.with_suffix(new_suffix)
        into_folder = is_folder(source, output or target)
        pairs = [(source, target / (source.stem + new_suffix) if into_folder else target)]
    inputs = {path.resolve() for path, _ in pairs}
    for _, to in pairs:
        if to.resolve() in inputs:
            raise CommandError(f"{to} would overwrite an input: choose another output with -o")
        check_name(to, suffixes, new_suffix)
    twice = [path for path, count in collections.Counter(_outputs(pairs, beside)).items() if count > 1]
    if twice:
        raise CommandError(f"{twice[0]} would be written twice: rename one of the inputs, or do them one by one")
    waiting = [(path, to) for path, to in pairs if not _is_done(path, to)]
    done = len(pairs) - len(waiting)
    if resume:
        pairs = waiting
    if not force:
        _refuse_existing(pairs, beside, resume, done)
    if resume and done:
        log.info("%d of %d are done, and newer than their inputs: skipped", done, done + len(waiting))
    return pairs


def _outputs(pairs, beside):
    """All paths that may be written for (input, output) pairs. (beside: as in jobs().)"""
    outputs = [to for _, to in pairs]
    return outputs + [beside(to) for to in outputs] if beside else outputs


def _refuse_existing(pairs, beside, resume, done):
    """CommandError where an output exists. `done` is the number of those that --resume leaves out."""
    outputs = _outputs(pairs, beside)
    existing = [path for path in outputs if path.is_file() or path.is_dir()]
    if not existing:
        return
    found = f"{existing[0]} exists"
    if len(pairs) > 1:
        found = f"{len(existing)} of {len(outputs)} outputs exist, such as {existing[0]}"
    if resume:
        raise CommandError(
            f"{found}: --resume leaves out what is newer than its input and overwrites nothing; give --force too to "
            "overwrite the rest, or another output with -o"
        )
    if len(pairs) == 1:
        raise CommandError(f"{found}: give --force to overwrite it, or another output with -o")
    ways = "--resume leaves out those that are newer than their inputs, " if done else ""
    raise CommandError(f"{found}: {ways}--force overwrites them, -o writes elsewhere")


def _searched(folder, suffixes, new_suffix, unreadable):
    """Files of a folder with one of the suffixes, sorted; and {suffix: count} of all other files except outputs."""
    found, others = [], collections.Counter()
    for path in visible_files(folder, unreadable):
        if path.suffix.lower() in suffixes:
            found.append(path)
        elif path.suffix.lower() != new_suffix:
            others[path.suffix.lower() or "without a suffix"] += 1
    return found, others


def _named_apart(files, source, target, new_suffix):
    """(input, output) of each file. Outputs that would have the same name keep the input's suffix: a.jpg.gic."""
    short = {path: (target / path.relative_to(source)).with_suffix(new_suffix) for path in files}
    whole = {path: to.with_name(path.name + new_suffix) for path, to in short.items()}
    outputs = dict(short)
    while True:
        count = collections.Counter(outputs.values())
        shared = [path for path, to in outputs.items() if count[to] > 1 and to != whole[path]]
        if not shared:
            break
        outputs |= {path: whole[path] for path in shared}
    kept = sum(outputs[path] != short[path] for path in files)
    if kept:
        log.info("%d files share a name but for the suffix, so their outputs keep it: a.jpg%s", kept, new_suffix)
    return list(outputs.items())


def _is_done(path, to):
    return to.is_file() and to.stat().st_mtime_ns >= path.stat().st_mtime_ns


@dataclass
class Outcome:
    """Result of one pair."""

    index: int  # of the pair
    line: str | None = None  # to be printed
    error: str | None = None
    warnings: tuple = ()  # logged by another process


def for_each(pairs, work, verb, processes=1, earlier=()):
    """Run work(input, output) on every pair, with a bar for more than one; report all failures at the end.

    With several processes, joblib runs them, on the backend that the caller has chosen, such as a Dask cluster:

        from dask.distributed import Client
        client = Client("scheduler:8786")                 # workers that see the same files
        with joblib.parallel_config(backend="dask"):
            main(["compress", "photos", "-o", "small", "--jobs", "16"])

    Args:
        pairs: (input file, output file).
        work: picklable function of both, that returns a line to print.
        verb: "compressed".
        processes: how many work at the same time, with one torch thread each.
        earlier: failures from before, such as folders that could not be read, to be listed with the others.

    Raises:
        CommandError: some pairs failed: a line for each. Or a process was killed: the failures so far, and how
            many pairs are not done.
    """
    from tqdm.auto import tqdm

    outcomes, waiting = {}, set(range(len(pairs)))
    lost = []  # the message where a process was killed
    try:
        with _no_bars_of_others():
            attempts = _attempts(pairs, work, processes)
            for outcome in tqdm(attempts, total=len(pairs), desc=verb, unit="file", disable=len(pairs) < 2):
                outcomes[outcome.index] = outcome
                waiting.discard(outcome.index)
                for text in outcome.warnings:
                    log.warning("%s", text)
                if outcome.line and len(pairs) == 1:
                    print(outcome.line)
    except BrokenExecutor:  # the system kills a process when memory runs out
        _remove_parts_of(pairs, waiting)
        lost.append(
            f"{len(waiting)} of {len(pairs)} files not done: a process was killed, perhaps for lack of memory. "
            "Give fewer --jobs, and --resume"
        )
    except BaseException:
        if processes > 1:  # these have been killed
            _remove_parts_of(pairs, waiting)
        raise
    failures = [outcomes[index].error for index in sorted(outcomes) if outcomes[index].error]
    if len(pairs) > 1:
        print(f"{verb}: {len(outcomes) - len(failures)} of {len(pairs)} files")
    if failures := [*map(str, earlier), *failures, *lost]:
        raise CommandError("\n".join(failures))


def _remove_parts_of(pairs, indices):
    for index in indices:
        remove_parts(pairs[index][1])


@contextlib.contextmanager
def _no_bars_of_others():
    """Inside, new processes show no progress bars of their own."""
    name, before = "TQDM_DISABLE", os.environ.get("TQDM_DISABLE")
    os.environ[name] = "1"
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


def _attempts(pairs, work, processes):
    """The outcomes, as they come."""
    tasks = [(index, work, path, to, os.getpid()) for index, (path, to) in enumerate(pairs)]
    if processes == 1 or len(pairs) < 2:
        return (_attempt(*task) for task in tasks)
    import joblib

    run = joblib.Parallel(n_jobs=min(processes, len(pairs)), return_as="generator_unordered")
    return run(joblib.delayed(_attempt)(*task) for task in tasks)


def _attempt(index, work, path, to, parent):
    """Process one pair; its error is returned in the Outcome and never stops the others."""
    messages = _Messages()
    if os.getpid() != parent:
        import torch

        torch.set_num_threads(1)
        logging.getLogger("ganlib").addHandler(messages)
    try:
        return Outcome(index, work(path, to), warnings=tuple(messages.texts))
    except Exception as error:
        text = str(error) or type(error).__name__
        text = text if str(path) in text else f"{path}: {text}"
        return Outcome(index, error=text, warnings=tuple(messages.texts))
    finally:
        logging.getLogger("ganlib").removeHandler(messages)


class _Messages(logging.Handler):
    """Collects the warnings of this thread, for the main process to show."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.texts, self.thread = [], threading.get_ident()

    def emit(self, record):
        if record.thread == self.thread:
            self.texts.append(record.getMessage())
