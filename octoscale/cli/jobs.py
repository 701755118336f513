"""Commands of jobs on a cluster that is somewhere else: submit, and jobs list, status, logs, stop."""

import dataclasses
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from octoscale.cli.console import Json, Quiet, answer, errors, output_of, tell
from octoscale.cli.runs import ConfigArgument, MaxFailures, Overrides, Workers, resilience_overrides

if TYPE_CHECKING:
    from octoscale.orchestrate.job import Job
    from octoscale.telemetry.output import Output

# Each command imports what it runs: `octoscale --help` answers at once.

# The shell's code of a program that Ctrl-C ended.
_EXIT_DETACHED = 130

Address = Annotated[
    str,
    typer.Option(envvar="RAY_API_SERVER_ADDRESS", help="The cluster's job server.", metavar="http://HOST:8265"),
]
JobArgument = Annotated[
    str, typer.Argument(help="A job's id, or a run's name for its newest.", metavar="JOB", show_default=False)
]


def submit(
    config: ConfigArgument,
    address: Address,
    overrides: Overrides = None,
    workers: Workers = None,
    env: Annotated[
        list[str] | None, typer.Option(help="A variable of the job: a copy of this shell's, or with =VALUE.")
    ] = None,
    secret: Annotated[
        list[str] | None, typer.Option(help="NAME of a variable that the cluster's environment must have.")
    ] = None,
    allow_secret_env: Annotated[
        bool, typer.Option("--allow-secret-env", help="Send --env variables that look like secrets.")
    ] = False,
    installed: Annotated[
        bool, typer.Option("--installed", help="Use the octoscale that the nodes have; by default this one is sent.")
    ] = False,
    max_failures: MaxFailures = None,
    max_resubmissions: Annotated[
        int, typer.Option(min=0, help="How often a job whose driver died or was interrupted is submitted again.")
    ] = 0,
    detach: Annotated[bool, typer.Option("--detach", help="Do not follow the job.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be sent, as JSON; send nothing.")
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train on a Ray cluster that is somewhere else; follow it, and end with its exit code.

    The same command goes on with a run that has ended early. Ctrl-C stops following, not the job.
    """
    from octoscale.config import load_config
    from octoscale.errors import OctoscaleError
    from octoscale.geometry import possible_geometries
    from octoscale.orchestrate.submission import plan_job, shared_paths

    if detach and max_resubmissions:
        raise OctoscaleError("--max-resubmissions follows the job to its end; leave --detach out")
    resolved = load_config(config, [*(overrides or ()), *resilience_overrides(workers, max_failures)])
    plan = plan_job(
        resolved, env=env or (), secrets=secret or (),
        allow_secret_env=allow_secret_env, installed=installed,
    )  # fmt: skip
    for key, path in shared_paths(resolved).items():
        errors.print(
            f"[yellow]{key} is the path {escape(path)}[/]: every node of the cluster must see the same files there",
            soft_wrap=True,
        )
    output = output_of(quiet=quiet, as_json=as_json)
    geometries = possible_geometries(resolved)
    if not quiet:
        for line in geometries[-1].lines(resolved, others=geometries[:-1]):
            tell(line)

    from octoscale.orchestrate.jobs import JobServer, submit_and_follow

    server = JobServer(address)
    if dry_run:
        submission = server.next_attempt(plan)
        sizes = [dataclasses.asdict(geometry) for geometry in geometries]
        answer(output, "submission", submission.to_json().rstrip("\n"), **submission.document(), geometry=sizes)
        return
    if detach:
        submission = server.next_attempt(plan)
        server.submit(submission)
        text = f"submitted {submission.id} to {server.address}"
        answer(output, "submitted", text, job=submission.id, address=server.address)
        _tell_how_to_go_on(submission.id, server.address)
        return
    write = _to_stderr if as_json else _write
    with _detached_by_ctrl_c(plan.run, server.address):
        job = submit_and_follow(server, plan, max_resubmissions=max_resubmissions, write=write, tell=tell)
    _end_as(output, job)


def jobs_list(address: Address, as_json: Json = False) -> None:
    """The runs that were submitted to the cluster, the newest first."""
    from octoscale.orchestrate.jobs import JobServer

    jobs = JobServer(address).jobs()
    table = Table("job", "status", "started", "minutes", "directory", box=None)
    for job in jobs:
        started = "" if job.started is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(job.started))
        minutes = "" if job.started is None else f"{((job.ended or time.time()) - job.started) / 60:.1f}"
        table.add_row(job.id, job.status, started, minutes, escape(job.directory or ""))
    answer(output_of(as_json=as_json), "jobs", table, jobs=[dataclasses.asdict(job) for job in jobs])


def jobs_status(job: JobArgument, address: Address, as_json: Json = False) -> None:
    """How a job is."""
    from octoscale.orchestrate.jobs import JobServer

    found = JobServer(address).job(job)
    text = "\n".join([f"{found.id}: {found.status}", *([found.message.strip()] if found.message else [])])
    answer(output_of(as_json=as_json), "job", text, **dataclasses.asdict(found))


def jobs_logs(
    job: JobArgument,
    address: Address,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Until the job ends, with its exit code; Ctrl-C leaves it running.")
    ] = False,
    as_json: Json = False,
) -> None:
    """What a job has printed."""
    from octoscale.orchestrate.jobs import JobServer

    output = output_of(as_json=as_json)
    write = partial(_as_event, output) if as_json else _write
    server = JobServer(address)
    found = server.job(job)
    if not follow:
        write(server.logs(found))
        return
    with _detached_by_ctrl_c(found.id, server.address):
        found = server.follow(found.id, write)
    _end_as(output, found)


def jobs_stop(job: JobArgument, address: Address, as_json: Json = False) -> None:
    """Stop a job, and wait until it has ended. What it has committed stays; submitting it again goes on there."""
    from octoscale.orchestrate.jobs import JobServer

    found = JobServer(address).stop(job)
    answer(output_of(as_json=as_json), "job", f"{found.id}: {found.status}", **dataclasses.asdict(found))


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _to_stderr(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def _as_event(output: "Output", text: str) -> None:
    output.event("log", text=text)


def _tell_how_to_go_on(job: str, address: str) -> None:
    tell(f"follow it: octoscale jobs logs {job} --follow --address {address}")
    tell(f"stop it:   octoscale jobs stop {job} --address {address}")


@contextmanager
def _detached_by_ctrl_c(job: str, address: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        tell("\nno longer following; the job, once submitted, goes on")
        _tell_how_to_go_on(job, address)
        raise typer.Exit(_EXIT_DETACHED) from None


def _end_as(output: "Output", job: "Job") -> None:
    output.event("job", **dataclasses.asdict(job))
    tell(f"{job.id}: {job.status}" + ("" if job.exit_code is None else f", exit code {job.exit_code}"))
    if job.end_code:
        raise typer.Exit(job.end_code)
