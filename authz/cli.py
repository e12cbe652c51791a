"""The verbs of `authz`.

Exit codes: 0 fine, 1 internal error, 2 bad arguments, 3 does not load (or the doctor found an error), 4 policy tests
failed.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

import click
from click.core import ParameterSource
from rich.console import Console

from authz import __version__
from authz.errors import LoadError, Problem, Severity
from authz.policy.parser import PolicySet
from authz.settings import Settings, load_settings
from authz.settings.addresses import LISTEN_FORMS, parse_address
from authz.startup import heed_signals, open_standard_descriptors
from authz.workbench.loading import check_configuration, check_policies, load_configuration
from authz.workbench.problems import printable, problem_fields, problem_lines, problem_report

EXIT_OK: Final = 0
EXIT_INTERNAL: Final = 1
EXIT_BAD_ARGUMENTS: Final = 2
EXIT_NOT_LOADED: Final = 3
EXIT_TESTS_FAILED: Final = 4


def main() -> NoReturn:
    """Run the command line. What the terminal's encoding lacks is escaped: `✓` must not end a verb in a traceback."""
    open_standard_descriptors()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    cli.main(prog_name="authz", auto_envvar_prefix=None)
    sys.exit(0)  # pragma: no cover - click exits by itself


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def cli() -> None:
    """Decide for Envoy who may pass, by Amazon Cognito tokens and YAML policies.

    \b
    Start here:
      authz demo                   a local Cognito and a real Envoy, to play with
      authz check -c authz.yaml    all that is wrong with your files, line by line
      authz serve -c authz.yaml    the service
    """


_config_option = click.option(
    "--config", "-c", "config", type=click.Path(path_type=Path), help="The configuration file.", envvar="AUTHZ_CONFIG"
)
_output_option = click.option(
    "--output", type=click.Choice(["table", "json"]), default="table", show_default=True, help="For people or programs."
)


@cli.command("serve")
@_config_option
@click.option("--listen", help="Where Envoy calls: host:port, :port or unix:///path.", metavar="ADDRESS")
@click.option("--admin", help="/livez /readyz /metrics: host:port, or off.", metavar="ADDRESS")
@click.option("--policies", help="A folder, or one file.", metavar="PATH")
@click.option("--workers", help="Processes, one endpoint each.", metavar="N")
@click.option("--log-level", help="debug, info, warning or error.", metavar="LEVEL")
@click.option("--log-format", help="json or text.", metavar="FORMAT")
@click.option("--log-decisions", help="all, denied or none.", metavar="WHICH")
def serve_command(config: Path | None, **flags: str | None) -> None:
    """Run the service.

    Every option has an environment twin, AUTHZ_LISTEN for --listen; the order is flag, environment, file, default.
    SIGHUP reloads policies, revocations and keys, SIGTERM drains and ends.
    """
    heed_signals()
    if config is None:
        raise click.UsageError("--config is missing: write authz serve --config authz.yaml (or set AUTHZ_CONFIG)")
    overrides = {name.replace("_", "-"): value for name, value in flags.items() if value is not None}
    sys.exit(_exit_code(lambda: _serve(load_configuration(config, overrides))))


def _serve(settings: Settings) -> int:
    if settings.workers > 1:
        from authz.supervisor import supervise  # noqa: PLC0415 - one of the two is needed

        return supervise(settings)
    from authz.service import serve  # noqa: PLC0415 - brings gRPC, which a supervisor must not load

    serve(settings)
    return EXIT_OK


@cli.command("worker", hidden=True)
def worker_command() -> None:
    """Be one of several workers; `authz serve` starts them."""
    heed_signals()
    from authz.channel import take_orders  # noqa: PLC0415 - other verbs need none of it

    try:
        orders = take_orders(sys.stdin.buffer)
    except ValueError as error:
        raise click.UsageError(f"{error}: this is for `authz serve` with `workers: N` to start") from None
    from authz.worker import work  # noqa: PLC0415 - slow; by now nothing can leave us behind

    sys.exit(_exit_code(lambda: work(orders)))


def _exit_code(run: Callable[[], int]) -> int:
    """Run what serves, and put into words what keeps it from starting."""
    try:
        return run()
    except LoadError as error:
        _report(error.problems, to_stderr=True)
        only_flags = all(problem.source.file.startswith("--") for problem in error.problems)
        return EXIT_BAD_ARGUMENTS if only_flags else EXIT_NOT_LOADED
    except (OSError, RuntimeError) as error:
        click.echo(printable(f"authz: cannot start: {error}"), err=True)
        return EXIT_INTERNAL


@cli.command("check")
@_config_option
@_output_option
@click.argument("policies", nargs=-1, type=click.Path(path_type=Path))
def check_command(config: Path | None, output: str, policies: Sequence[Path]) -> None:
    """Load everything as `serve` would, and report every problem as file:line:column: message.

    Give a configuration, or policy files and folders alone: all the files are one set, and each folder is one.
    Exit code 3 when something does not load.
    """
    if policies and _is_from_environment("config"):
        config = None  # AUTHZ_CONFIG is for who gives nothing
    if (config is None) == (not policies):
        raise click.UsageError("give either --config authz.yaml, or policy files and folders")
    loaded, problems = check_configuration(config) if config is not None else check_policies(policies)
    if output == "json":
        click.echo(json.dumps(_check_report(loaded, problems), indent=2))
    else:
        _report(problems)
        _summarize(loaded, problems)
    if any(problem.severity is Severity.ERROR for problem in problems):
        sys.exit(EXIT_NOT_LOADED)


def _is_from_environment(parameter: str) -> bool:
    source = click.get_current_context().get_parameter_source(parameter)
    return source is ParameterSource.ENVIRONMENT


def _check_report(loaded: Sequence[PolicySet], problems: Sequence[Problem]) -> Mapping[str, Any]:
    return {
        **problem_fields(problems),
        "sets": [
            {
                "revision": policies.revision,
                "routes": len(policies.routes.routes),
                "envoy_keys": [{"key": key, "at": str(source)} for key, source in policies.envoy_keys],
            }
            for policies in loaded
        ],
    }


def _report(problems: Sequence[Problem], *, to_stderr: bool = False) -> None:
    for line in problem_lines(problems):
        click.echo(line, err=to_stderr)


def _end_unloaded(error: LoadError, output: str = "table") -> NoReturn:
    """Tell why nothing was loaded, in the form that was asked for, and end."""
    click.echo(problem_report(error.problems, output))
    sys.exit(EXIT_NOT_LOADED)


def _summarize(loaded: Sequence[PolicySet], problems: Sequence[Problem]) -> None:
    console = Console(highlight=False)
    for policies in loaded:
        for key, source in policies.envoy_keys:
            note = f"{source}: note: `{key}` is Envoy's to do: authz accepts it and does nothing with it"
            click.echo(printable(note))
    errors = sum(problem.severity is Severity.ERROR for problem in problems)
    warnings = len(problems) - errors
    extra = f", {_count(warnings, 'warning')}" if warnings else ""
    if errors:
        console.print(f"[red]✗[/red] {_count(errors, 'error')}{extra}: nothing would be loaded")
        return
    for policies in loaded:
        routes = _count(len(policies.routes.routes), "route")
        console.print(f"[green]✓[/green] {routes}, revision {policies.revision}{extra}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _number(_: click.Context, __: click.Parameter, value: float | None) -> float | None:
    """Refuse `nan`, which lies in every range and above no limit."""
    if value is not None and math.isnan(value):
        raise click.BadParameter("nan is not a number.")
    return value


@cli.command("test")
@_config_option
@click.option("--output", type=click.Choice(["table", "json", "junit"]), default="table", show_default=True)
@click.option(
    "--coverage-threshold",
    type=click.FloatRange(0, 100),
    callback=_number,
    metavar="PERCENT",
    help="Fail below it.",
)
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
def test_command(config: Path | None, output: str, coverage_threshold: float | None, paths: Sequence[Path]) -> None:
    """Run policy tests: the *_test.yaml files beside the policies.

    Without PATHS: those of the configuration's policies, or of policies/.
    Exit code 4 when an expectation fails or coverage is below the threshold, 3 when a file does not load.
    """
    from authz.workbench.policy_tests import test_policies  # noqa: PLC0415 - other verbs need none of it
    from authz.workbench.reports import json_report, junit_report, print_table  # noqa: PLC0415

    try:
        settings = None if config is None else load_settings(config, environ=os.environ, overrides={})
        report = test_policies(paths, settings=settings, coverage_threshold=coverage_threshold)
    except LoadError as error:
        _end_unloaded(error, output)
    if output == "table":
        print_table(report, Console(highlight=False))
    else:
        click.echo(json_report(report) if output == "json" else junit_report(report))
    sys.exit(EXIT_OK if report.ok else EXIT_TESTS_FAILED)


@cli.command("explain")
@_config_option
@click.option(
    "--policies", type=click.Path(path_type=Path, exists=True), help="Policies alone, without a configuration."
)
@click.option("--url", help="https://HOST/PATH")
@click.option("--method", default="GET", show_default=True)
@click.option("--header", "-H", "headers", multiple=True, help="'Name: value'; may be given again.")
@click.option("--token", help="The token, or @FILE, as it was copied. It is never printed.")
@click.option("--claims", help="Claims as JSON, or @FILE: judge them without a token.")
@click.option(
    "--source-ip",
    metavar="ADDRESS",
    help="The TCP peer that Envoy sees; 192.0.2.1 unless given, or what a log's line says; '' for an unknown one. "
    "No effect where `client_ip_header` is configured: give that header with -H.",
)
@click.option("--route", "route_id", help="The route that Envoy names (context_extensions).")
@click.option("--now", help="When: ISO 8601; now unless given.")
@_output_option
@click.argument("command", nargs=-1)
def explain_command(**options: Any) -> None:  # noqa: ANN401 - click hands over what the options say
    """Decide one request and show why, criterion by criterion.

    \b
    The request comes from what you have in hand:
      authz explain -c authz.yaml --url https://admin.example.com/ \\
        --token @token.txt
      authz explain -c authz.yaml --url https://admin.example.com/ \\
        --claims '{"cognito:groups": ["devs"]}'
      authz explain -c authz.yaml -- \\
        curl -H 'Authorization: Bearer …' https://admin.example.com/
      tail -1 decisions.log | authz explain -c authz.yaml

    A token is verified when the keys of its pool can be reached; otherwise it is read, and marked unverified.
    """
    from authz.workbench.explain_verb import UsageError, explain  # noqa: PLC0415 - other verbs need none of it

    options["stdin"] = sys.stdin
    try:
        click.echo(explain(options, color=_color()), color=True)
    except UsageError as error:
        raise click.UsageError(printable(str(error))) from None
    except LoadError as error:
        _end_unloaded(error, options["output"])


def _color() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")  # no-color.org: present and not empty


@cli.group("import")
def import_group() -> None:
    """Move here from Pomerium or Kong: policies, tests, Envoy's configuration, and what became of every setting."""


_out_option = click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default="imported", show_default=True, help="Folder."
)
_force_option = click.option("--force", is_flag=True, help="Overwrite what an earlier import wrote there.")
_source_argument = click.argument("source", metavar="FILE", type=click.Path(path_type=Path))


@import_group.command("pomerium")
@_out_option
@_force_option
@_source_argument
def import_pomerium_command(source: Path, out: Path, force: bool) -> None:
    """Import Pomerium's configuration: YAML, a ConfigMap around it, or KEY=value lines.

    What cannot be carried over and would let in more stops the import: exit code 3, with every such place.
    """
    _import("pomerium", source, out, force=force)


@import_group.command("kong")
@_out_option
@_force_option
@_source_argument
def import_kong_command(source: Path, out: Path, force: bool) -> None:
    """Import Kong's declarative file with the openid-connect plugin, or that plugin alone.

    What cannot be carried over and would let in more stops the import: exit code 3, with every such place.
    """
    _import("kong", source, out, force=force)


def _import(program: str, source: Path, out: Path, *, force: bool) -> None:
    from authz.workbench.importers import import_kong, import_pomerium  # noqa: PLC0415 - other verbs need none of it

    run = {"pomerium": import_pomerium, "kong": import_kong}[program]
    try:
        result = run(source, out, force=force)
    except LoadError as error:
        _report(error.problems)
        click.echo(f"nothing was written: {_count(len(error.problems), 'problem')}", err=True)
        sys.exit(EXIT_NOT_LOADED)
    routes, tests = _count(result.routes, "route"), _count(result.tests, "test")
    click.echo(f"{out}: {routes}, {tests}; {_count(result.left, 'setting')} not carried over, see {out / 'IMPORT.md'}")
    for item in result.todo:
        click.echo(printable(f"- {item}"))


@cli.command("doctor")
@_config_option
@_output_option
@click.argument("envoy", metavar="ENVOY")
def doctor_command(envoy: str, config: Path | None, output: str) -> None:
    """Say what in an Envoy configuration would undo what authz promises, with the fix of each.

    \b
    ENVOY is a bootstrap file, or the admin address of a running Envoy:
      authz doctor envoy.yaml
      authz doctor http://127.0.0.1:9901 --config authz.yaml

    With --config, hosts, routes, identity headers and workers are compared with it.
    Exit code 3 when a finding is an error; warnings and notes end with 0.
    """
    from authz.workbench.doctor.report import is_well, json_report, text_report  # noqa: PLC0415 - other verbs need none
    from authz.workbench.doctor.verb import UsageError, diagnose, is_address  # noqa: PLC0415

    try:
        findings = diagnose(envoy, config)
    except UsageError as error:
        raise click.UsageError(printable(str(error))) from None
    except LoadError as error:
        _end_unloaded(error, output)
    is_file = not is_address(envoy)
    if output == "json":
        click.echo(json_report(findings, is_file=is_file))
    else:
        click.echo("\n".join(text_report(findings, is_file=is_file)))
    sys.exit(EXIT_OK if is_well(findings) else EXIT_NOT_LOADED)


@cli.command("schema")
@click.argument("what", type=click.Choice(["config", "policies", "tests"]))
def schema_command(what: str) -> None:
    """Print the JSON Schema of a file, for editors to complete and check with."""
    from authz.workbench.schemas import schema  # noqa: PLC0415 - 25 ms that other verbs need not spend

    click.echo(json.dumps(schema(what), indent=2))


_PEM: Final = click.Path(exists=True, dir_okay=False, path_type=Path)


@cli.command("healthcheck")
@click.option(
    "--address",
    envvar="AUTHZ_LISTEN",
    default="127.0.0.1:9191",
    show_default=True,
    help="The gRPC address: host:port, :port or unix:///path.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, 3600, min_open=True),  # gRPC takes a much longer time for none
    callback=_number,
    default=2.0,
    show_default=True,
    help="Seconds to wait.",
)
@click.option("--tls-ca", type=_PEM, help="The port has TLS: who signed its certificate.")
@click.option("--tls-certificate", type=_PEM, help="The port wants one (`client_ca`): any that it signed will do.")
@click.option("--tls-key", type=_PEM, help="The key of that certificate.")
@click.option("--tls-server-name", help="A name in the service's certificate, if the address is none.")
def healthcheck_command(
    address: str,
    timeout: float,
    tls_ca: Path | None,
    tls_certificate: Path | None,
    tls_key: Path | None,
    tls_server_name: str | None,
) -> None:
    """Exit 0 if the service is serving, 1 otherwise; for a container's health check."""
    if (tls_certificate is None) != (tls_key is None):
        raise click.UsageError("--tls-certificate and --tls-key belong together")
    if tls_ca is None and (tls_certificate or tls_server_name):
        raise click.UsageError("--tls-ca is missing: without it the port is asked in plain text")
    import grpc  # noqa: PLC0415 - half a second that no other verb but serve should pay
    from grpc_health.v1 import health_pb2, health_pb2_grpc  # noqa: PLC0415

    from authz.transport.server import SERVICE  # noqa: PLC0415

    target = _target_of(address)
    try:
        # Never through a proxy that the environment names: it is ourselves that we ask.
        options: list[tuple[str, int | str]] = [("grpc.enable_http_proxy", 0)]
        if tls_server_name:
            options.append(("grpc.ssl_target_name_override", tls_server_name))
        if tls_ca is None:
            opened = grpc.insecure_channel(target, options)
        else:
            key, certificate = (None if file is None else file.read_bytes() for file in (tls_key, tls_certificate))
            opened = grpc.secure_channel(
                target, grpc.ssl_channel_credentials(tls_ca.read_bytes(), key, certificate), options
            )
        with opened as channel:
            request = health_pb2.HealthCheckRequest(service=SERVICE)
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=timeout)
    except grpc.RpcError as error:
        click.echo(f"not serving: {address}: {error.code().name}")
        nobody = any(words in (error.details() or "") for words in ("refused", "No such file", "DNS", "resol"))
        if tls_ca is None and error.code() is grpc.StatusCode.UNAVAILABLE and not nobody:
            click.echo("something listens there: does the port have TLS? Then give --tls-ca", err=True)
        sys.exit(EXIT_INTERNAL)
    name = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    click.echo(f"{name.lower().replace('_', ' ')}: {address}")
    sys.exit(0 if answer.status == health_pb2.HealthCheckResponse.SERVING else EXIT_INTERNAL)


_OTHERS: Final = re.compile(r"unix:(?!//).+|[\w.-]+_[\w.-]*:[0-9]{1,5}", re.ASCII)
"""What gRPC can reach and `listen` cannot name: its own spelling of sockets, and the names of containers."""


def _target_of(address: str) -> str:
    """Give an address as gRPC takes it. Raises BadParameter for what `listen` would not take either."""
    if _OTHERS.fullmatch(address):
        return address
    listen = parse_address(address)
    if listen is None or (listen.path is None and listen.port == 0):
        raise click.BadParameter(f"found {address!r}, expected {LISTEN_FORMS}", param_hint="'--address'")
    return (listen if listen.path or listen.host else listen._replace(host="127.0.0.1")).target


@cli.command("version")
@click.option("--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def version_command(output: str) -> None:
    """Print the version, and the revision of the wire API."""
    from authz.transport.server import SERVICE  # noqa: PLC0415 - brings gRPC

    if output == "json":
        click.echo(json.dumps({"version": __version__, "api": SERVICE}))
    else:
        click.echo(f"authz {__version__} ({SERVICE})")


_PORT: Final = click.IntRange(0, 65535)


@cli.command("demo")
@click.option("--once", is_flag=True, help="Run the scenario once, print the table, exit 0 or 1.")
@click.option(
    "--policies",
    type=click.Path(path_type=Path, exists=True),
    help="A folder of policies to play with; not with --once.",
)
@click.option("--keep", is_flag=True, help="Keep the temporary folder.")
@click.option("--envoy-port", type=_PORT, default=0, help="0: any free port. So for the others.")
@click.option("--envoy-admin-port", type=_PORT, default=0)
@click.option("--authz-port", type=_PORT, default=0)
@click.option("--admin-port", type=_PORT, default=0)
@click.option("--upstream-port", type=_PORT, default=0)
@click.option("--cognito-port", type=_PORT, default=0)
@click.option("--auth0-port", type=_PORT, default=0)
@click.option("--browser-port", type=_PORT, default=0)
@click.option("--browser-admin-port", type=_PORT, default=0)
def demo_command(**options: Any) -> None:  # noqa: ANN401 - click hands over what the options say
    """Start a local Cognito, this service, a real Envoy and an upstream; stay until Ctrl-C."""
    if options["once"] and options["policies"] is not None:
        raise click.UsageError(
            "--once plays a scenario written for the sample policies: leave --policies or --once out"
        )
    run = _demo()
    sys.exit(run(options))


def _demo() -> Callable[[Mapping[str, Any]], int]:
    try:
        from authz.demo.stand import main as run  # noqa: PLC0415 - an extra that production does not install
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"the demo needs `{error.name}`, which is not installed: pip install '.[demo]' in a clone of the repository"
        ) from None
    return run
