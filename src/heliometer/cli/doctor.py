"""``heliometer doctor``: what is wrong with the installation, and what to do about it."""

from pathlib import Path

import click

from heliometer.cli.errors import FAILED
from heliometer.cli.options import load_settings, settings_options


@click.command(short_help="Check settings, data, disk and clock, with advice.")
@settings_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(data_dir: str | None, config: Path | None, as_json: bool) -> int:
    """Check everything that the service needs, also while it runs.

    Each line says ok, warn or FAIL, what was found, and what to do about it. The exit code is 0
    unless a check FAILed.

    \b
    Examples:
      heliometer doctor
      heliometer doctor --config /etc/heliometer.toml --json
    """
    import logging

    from heliometer.config import WrongSetting
    from heliometer.core.finding import FAIL, OK, Finding
    from heliometer.server.doctor import run_all

    # A finding is reported by its line alone.
    logging.getLogger("heliometer").addHandler(logging.NullHandler())
    try:
        settings = load_settings(config, data_dir)
    except WrongSetting as error:
        findings = [Finding("settings", FAIL, str(error), "correct the setting")]
    else:
        source = f"{config} and the environment" if config else "defaults and the environment"
        findings = [Finding("settings", OK, f"valid ({source})"), *run_all(settings)]
    if as_json:
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(findings), indent=2))
    else:
        for finding in findings:
            click.echo(finding.line())
    return FAILED if any(finding.level == FAIL for finding in findings) else 0
