"""What a user says of a step's program and of what it runs in, checked and as values.

Knows no nodes and no files: which inputs there are is told.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from clew.base.errors import Invalid
from clew.places import CommandDefinition, RuntimeDefinition

_VERSION = re.compile(r"\d+(\.\d+){0,2}")
_VARIABLE = re.compile(r"[A-Za-z_]\w*")


def command_of(
    step: str,
    command: Sequence[str] | str,
    *,
    names: Collection[str],
    stdin: str = "",
    stdout: str = "",
    pipes: Sequence[str] = (),
    exit_codes: Sequence[int] = (0,),
    env: Mapping[str, str] | None = None,
) -> CommandDefinition:
    """The program of a step; ``names`` are those of its inputs.

    Raises:
        Invalid: ``pipeline.definition``.
    """
    shell = isinstance(command, str)
    arguments = (command,) if isinstance(command, str) else tuple(command)
    if not arguments or not all(isinstance(one, str) and "\0" not in one for one in arguments):
        raise _invalid(
            f"The command of {step} is {command!r}",
            'Give a list of texts, ["Rscript", "clean.R"], or one text for the shell.',
        )
    if not arguments[0].strip():
        raise _invalid(f"The command of {step} is empty", "Name the program to run first.")
    _check_inputs(step, "stdin", [stdin] if stdin else [], names)
    _check_inputs(step, "pipes", pipes, names)
    if stdin in pipes:
        raise _invalid(
            f"{stdin!r} of {step} is in pipes= and in stdin=", "Its files can be read in one way."
        )
    codes = tuple(sorted({*exit_codes}))
    if not codes or not all(isinstance(one, int) and 0 <= one <= 255 for one in codes):
        raise _invalid(
            f"exit_codes={tuple(exit_codes)!r} of {step}", "Give numbers from 0 to 255: (0, 1)."
        )
    return CommandDefinition(
        arguments=arguments,
        shell=shell,
        stdin=stdin,
        stdout=stdout,
        pipes=tuple(dict.fromkeys(pipes)),
        exit_codes=codes,
        environment=_variables(step, env or {}),
    )


def runtime_of(
    step: str,
    *,
    requirements: Sequence[str] | str = (),
    python: str = "",
    sandbox: bool = False,
    network: bool | None = None,
    image: str = "",
    cpus: int | None = None,
) -> RuntimeDefinition:
    """What a step runs in. A text as ``requirements`` is the name of a file of the project.

    Raises:
        Invalid: ``pipeline.definition``.
    """
    if not isinstance(python, str):
        raise _invalid(
            f"python={python!r} of {step} is a {type(python).__name__}",
            f'Give a text: python="{python}".',
        )
    if not _are_lines(requirements):
        raise _invalid(
            f"requirements={requirements!r} of {step}",
            'Give a list of packages, ["pandas==2.2.3"], or the name of a requirements file.',
        )
    if python and not (_VERSION.fullmatch(python) or python.startswith("/")):
        raise _invalid(
            f"python={python!r} of {step}", 'Give a version, "3.12", or the path of an interpreter.'
        )
    if image and (requirements or python or sandbox):
        raise _invalid(
            f"{step} has an image and requirements=, python= or sandbox= beside it",
            "An image brings its own programs and is closed off by itself: leave the others out.",
        )
    if network is not None and not (sandbox or image):
        raise _invalid(
            f"network={network} of {step}",
            "Only sandbox=True and image= can close the network; without them it is open.",
        )
    if cpus is not None and (not isinstance(cpus, int) or cpus < 1):
        raise _invalid(f"cpus={cpus!r} of {step}", "Give a whole number of cores, 1 or more.")
    lines = (f"-r {requirements}",) if isinstance(requirements, str) and requirements else ()
    return RuntimeDefinition(
        requirements=lines or tuple(str(one).strip() for one in requirements),
        python=python,
        sandbox=sandbox,
        network=bool(network),
        image=image,
        cpus=cpus,
    )


def _are_lines(requirements: object) -> bool:
    """Whether that is a text, or several; none of them empty."""
    if isinstance(requirements, str):
        return True
    if not isinstance(requirements, Sequence):
        return False
    return all(isinstance(one, str) and one.strip() for one in requirements)


def _check_inputs(step: str, option: str, given: Sequence[str], names: Collection[str]) -> None:
    if isinstance(given, str):
        raise _invalid(f"{option}={given!r} of {step}", f"Give a list: {option}=[{given!r}].")
    unknown = [one for one in given if one not in names]
    if unknown:
        raise _invalid(
            f"{option}= of {step} names {unknown[0]!r}, which is none of its inputs",
            f"Its inputs are {', '.join(names) or 'none'}.",
        )


def _variables(step: str, env: Mapping[str, str]) -> dict[str, str]:
    for name, value in env.items():
        if not _VARIABLE.fullmatch(name) or not isinstance(value, str) or "\0" in value:
            raise _invalid(
                f"env= of {step} has {name!r}: {value!r}", "Give names and texts: {'LANG': 'C'}."
            )
    return dict(env)


def _invalid(what: str, hint: str) -> Invalid:
    return Invalid("pipeline.definition", f"{what}.", hint=hint)
