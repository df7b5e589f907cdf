"""Files in, files out: which output belongs to which input, written so that nothing is lost."""

from pathlib import Path

from tqdm.auto import tqdm


class CommandError(Exception):
    """Says on one line what was wrong and what to do."""


def jobs(source, output, suffixes, new_suffix, force):
    """Pairs of (input file, output file) for a file or a folder.

    A folder keeps its tree below `output`. Refuses outputs that exist (unless `force`), that are an input, or
    that two inputs would share.
    """
    source = Path(source)
    if not source.exists():
        raise CommandError(f"{source} does not exist")
    if source.is_dir():
        files = sorted(p for p in source.rglob("*") if p.suffix.lower() in suffixes and p.is_file())
        if not files:
            raise CommandError(f"no file in {source} ends in {', '.join(sorted(suffixes))}")
        target = Path(output) if output else source
        pairs = [(p, (target / p.relative_to(source)).with_suffix(new_suffix)) for p in files]
    else:
        target = Path(output) if output else source.with_suffix(new_suffix)
        pairs = [(source, target / (source.stem + new_suffix) if target.is_dir() else target)]
    inputs, outputs = {p.resolve() for p, _ in pairs}, {}
    for path, to in pairs:
        if to.resolve() in inputs:
            raise CommandError(f"{to} would overwrite an input: choose another output with -o")
        if to in outputs:
            raise CommandError(f"{outputs[to]} and {path} would both become {to}: rename one of them")
        if to.exists() and not force:
            raise CommandError(f"{to} exists: give --force to overwrite it, or another output with -o")
        outputs[to] = path
    return pairs


def for_each(pairs, work, verb):
    """Run work(input, output) on every pair, with a bar for more than one; report all failures at the end."""
    failures = []
    for path, to in tqdm(pairs, desc=verb, unit="file", disable=len(pairs) < 2):
        try:
            line = work(path, to)
            if len(pairs) == 1:
                print(line)
        except (ValueError, OSError) as error:
            failures.append(str(error) if str(path) in str(error) else f"{path}: {error}")
    if len(pairs) > 1:
        print(f"{verb}: {len(pairs) - len(failures)} of {len(pairs)} files")
    if failures:
        raise CommandError("\n".join(failures))
