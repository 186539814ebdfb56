"""``heliometer completion``: the script that teaches a shell the commands and options."""

import click
from click.shell_completion import get_completion_class

INSTALL = {
    "bash": "heliometer completion bash > ~/.local/share/bash-completion/completions/heliometer",
    "zsh": "heliometer completion zsh > a folder of $fpath, as _heliometer",
    "fish": "heliometer completion fish > ~/.config/fish/completions/heliometer.fish",
}


@click.command(short_help="Print the completion script of a shell.")
@click.argument("shell", type=click.Choice(list(INSTALL)))
def completion(shell: str) -> None:
    """Print the completion script of SHELL.

    \b
    Examples:
      source <(heliometer completion bash)
      heliometer completion bash > ~/.local/share/bash-completion/completions/heliometer
      heliometer completion zsh > "${fpath[1]}/_heliometer"
      heliometer completion fish > ~/.config/fish/completions/heliometer.fish
    """
    from heliometer.cli import cli

    kind = get_completion_class(shell)
    assert kind is not None  # click has all three
    script = kind(cli, {}, "heliometer", "_HELIOMETER_COMPLETE").source().rstrip("\n")
    if shell == "zsh":
        # The first line must stay the first: it tells zsh's compinit what the file completes.
        first, _, rest = script.partition("\n")
        click.echo(f"{first}\n# To install: {INSTALL[shell]}\n{rest}")
    else:
        click.echo(f"# To install: {INSTALL[shell]}\n{script}")
