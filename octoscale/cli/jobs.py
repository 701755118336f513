"""Commands of jobs on a cluster that is somewhere else: submit, and jobs list, status, logs, stop."""

import dataclasses
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from octoscale.cli.console import errors, out
from octoscale.cli.runs import ConfigArgument, MaxFailures, Overrides, Workers, resilience_overrides

if TYPE_CHECKING:
    from octoscale.orchestrate.job import Job

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
Json = Annotated[bool, typer.Option("--json", help="As JSON.")]


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
) -> None:
    """Train on a Ray cluster that is somewhere else; follow it, and end with its exit code.

    The same command goes on with a run that has ended early. Ctrl-C stops following, not the job.
    """
    from octoscale.config import load_config
    from octoscale.errors import OctoscaleError
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

    from octoscale.orchestrate.jobs import JobServer, submit_and_follow

    server = JobServer(address)
    if dry_run:
        sys.stdout.write(server.next_attempt(plan).to_json())
        return
    if detach:
        submission = server.next_attempt(plan)
        server.submit(submission)
        out.print(f"submitted {submission.id} to {server.address}", markup=False, soft_wrap=True)
        _tell_how_to_go_on(submission.id, server.address)
        return
    with _detached_by_ctrl_c(plan.run, server.address):
        job = submit_and_follow(server, plan, max_resubmissions=max_resubmissions, write=_write, tell=_tell)
    _end_as(job)


def jobs_list(address: Address, as_json: Json = False) -> None:
    """The runs that were submitted to the cluster, the newest first."""
    from octoscale.orchestrate.jobs import JobServer

    jobs = JobServer(address).jobs()
    if as_json:
        sys.stdout.write(json.dumps([dataclasses.asdict(job) for job in jobs], indent=2) + "\n")
        return
    table = Table("job", "status", "started", "minutes", "directory", box=None)
    for job in jobs:
        started = "" if job.started is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(job.started))
        minutes = "" if job.started is None else f"{((job.ended or time.time()) - job.started) / 60:.1f}"
        table.add_row(job.id, job.status, started, minutes, escape(job.directory or ""))
    out.print(table)


def jobs_status(job: JobArgument, address: Address, as_json: Json = False) -> None:
    """How a job is."""
    from octoscale.orchestrate.jobs import JobServer

    found = JobServer(address).job(job)
    if as_json:
        sys.stdout.write(json.dumps(dataclasses.asdict(found), indent=2) + "\n")
        return
    out.print(f"{found.id}: {found.status}", markup=False, soft_wrap=True)
    if found.message:
        out.print(found.message.strip(), markup=False, soft_wrap=True)


def jobs_logs(
    job: JobArgument,
    address: Address,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Until the job ends, with its exit code; Ctrl-C leaves it running.")
    ] = False,
) -> None:
    """What a job has printed."""
    from octoscale.orchestrate.jobs import JobServer

    server = JobServer(address)
    found = server.job(job)
    if not follow:
        _write(server.logs(found))
        return
    with _detached_by_ctrl_c(found.id, server.address):
        found = server.follow(found.id, _write)
    _end_as(found)


def jobs_stop(job: JobArgument, address: Address) -> None:
    """Stop a job, and wait until it has ended. What it has committed stays; submitting it again goes on there."""
    from octoscale.orchestrate.jobs import JobServer

    found = JobServer(address).stop(job)
    out.print(f"{found.id}: {found.status}", markup=False, soft_wrap=True)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _tell(text: str) -> None:
    errors.print(text, markup=False, soft_wrap=True)


def _tell_how_to_go_on(job: str, address: str) -> None:
    _tell(f"follow it: octoscale jobs logs {job} --follow --address {address}")
    _tell(f"stop it:   octoscale jobs stop {job} --address {address}")


@contextmanager
def _detached_by_ctrl_c(job: str, address: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        _tell("\nno longer following; the job, once submitted, goes on")
        _tell_how_to_go_on(job, address)
        raise typer.Exit(_EXIT_DETACHED) from None


def _end_as(job: "Job") -> None:
    _tell(f"{job.id}: {job.status}" + ("" if job.exit_code is None else f", exit code {job.exit_code}"))
    if job.end_code:
        raise typer.Exit(job.end_code)
