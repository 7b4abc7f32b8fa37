"""The command line of Firecracker and of its jailer: `--name value`, `--name=value` and flags."""

import re
import sys

ARGUMENT_ERROR = 153  # the exit status of both for arguments that are none


def parse(argv, values, flags=(), lists=()):
    """Reads the arguments up to `--` into a dict, and returns it with those behind the `--`.

    `values` maps each option that takes a value to its default, None for no default and no option
    given; those in `lists` may come more than once.
    """
    options = {**values, **{name: False for name in flags}, **{name: [] for name in lists}}
    given = set()
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word == "--":
            break
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or name not in options:
            usage_error(f"Found argument '{word}' which wasn't expected.")
        if name in given and name not in lists:
            usage_error(f"The argument '{name}' was provided more than once.")
        given.add(name)
        if name in flags:
            options[name] = True
            continue
        if not equals:
            if not rest or rest[0].startswith("--"):
                usage_error(f"The argument '{name}' requires a value, but none was supplied.")
            value = rest.pop(0)
        if name in lists:
            options[name].append(value)
        else:
            options[name] = value
    return options, rest


def require(options, *names):
    for name in names:
        if options[name] is None:
            usage_error(f"Argument '{name}' required, but not found.")


def usage_error(text):
    print(f"Error: Arguments parsing error: {text}\n", file=sys.stderr)
    print("For more information try --help.", file=sys.stderr)
    sys.exit(ARGUMENT_ERROR)


def check_id(vm_id):
    """The id of a VM: letters, digits and hyphens, 1 to 64 of them."""
    if not re.fullmatch("[A-Za-z0-9-]{1,64}", vm_id):
        print(f"Error: Invalid instance ID: {vm_id!r}", file=sys.stderr)
        sys.exit(1)
