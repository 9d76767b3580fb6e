"""The front door: ``farshore …``. One noun, one file; a command imports what it needs when it runs."""

from __future__ import annotations

import importlib
import os
import sys

import click

from farshore import __version__
from farshore.core.errors import FarshoreError, Invalid, Unavailable

COMMANDS = {
    "agent": "agent:agent",
    "audit": "operator:audit",
    "azure": "azure:azure",
    "demo": "demo:demo",
    "deployment": "deployment:deployment",
    "device": "device:device",
    "hub": "hub:hub",
    "iothub": "iothub:iothub",
    "keys": "keys:keys",
    "login": "login:login",
    "logout": "login:logout",
    "ledger": "ledger:ledger",
    "link": "ledger:link",
    "model": "model:model",
    "operator": "operator:operator",
    "package": "package:package",
    "patch": "patch:patch",
    "rollout": "rollout:rollout",
    "serve": "serve:serve",
    "settings": "settings:settings",
    "sim": "sim:sim",
    "up": "up:up",
    "watch": "watch:watch",
}


class LazyGroup(click.Group):
    """A group that imports a command's module only when the command is named: the front door opens fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = COMMANDS.get(cmd_name)
        if place is None:
            return None
        module, _, attribute = place.partition(":")
        found: click.Command = getattr(importlib.import_module(f"farshore.cli.{module}"), attribute)
        return found


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="farshore")
def farshore() -> None:
    """Ship AI models to devices where bandwidth is scarce.

    \b
    farshore demo                          see all of it work, in two minutes
    farshore up                            the same small world, left running to play with
    farshore hub                           the registry and hub of your fleet
    farshore model push detector ./v2/     a new version
    farshore rollout start detector@2 --waves 1,10%,100%
    farshore agent --root /var/lib/farshore --hub https://hub.example --enrol TOKEN
    farshore serve --root /var/lib/farshore
    farshore watch rtsp://camera.local/stream
    """


def main() -> None:
    """Run the command line. Known errors become one line on standard error and the exit code of their class."""
    try:
        status = farshore.main(standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else "")
        sys.exit(0)
    except click.ClickException as error:
        _complain(error.format_message(), getattr(error, "ctx", None))
        sys.exit(Invalid.exit_code)
    except click.Abort:
        click.echo("", err=True)
        sys.exit(130)
    except FarshoreError as error:
        _complain(error.message)
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        extra = _extra_of(error.name or "")
        if extra is None:
            raise
        _complain(f"this command needs more than is installed: pip install 'farshore[{extra}]'")
        sys.exit(Invalid.exit_code)
    except BrokenPipeError:  # `farshore model list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        _complain(f"{error.filename or 'input/output'}: {error.strerror or error}")
        sys.exit(Unavailable.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(status if isinstance(status, int) else 0)


def _complain(message: str, ctx: click.Context | None = None) -> None:
    click.echo(f"farshore: {message}", err=True)
    if ctx is not None:
        click.echo(f"Try '{ctx.command_path} --help'.", err=True)


def _extra_of(module: str) -> str | None:
    """The extra that brings a missing third-party module, or None if it should have been there."""
    top = module.partition(".")[0]
    hub = {"alembic", "argon2", "granian", "obstore", "sqlalchemy", "starlette", "websockets"}
    serve = {"httptools", "PIL", "simplejpeg"}
    if top in {"av", "azure"}:
        return "watch" if top == "av" else "azure"
    return "hub" if top in hub else "onnx,litert" if top in serve | {"onnxruntime", "ai_edge_litert"} else None
