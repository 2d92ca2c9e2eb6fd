"""`callgate trust catalogue` and `callgate trust osv`: what others know of packages, kept on this machine."""

from __future__ import annotations

import textwrap
from pathlib import Path

from callgate.cli.trust_sign import EXIT_NO, EXIT_OK, answered, configuration, parser
from callgate.errors import TrustError
from callgate.text import visible

OLD_DAYS = 30


@answered
def catalogue_action(argv: list[str]) -> int:
    """0 ok; 1 it does not verify, or the answer is no; 2 usage."""
    made = parser(
        "catalogue",
        "A team's catalogue: which servers it approved, which packages it denies. It is\n"
        "published with TUF; this only reads it.",
    )
    actions = made.add_subparsers(dest="action", required=True, metavar="ACTION")
    one = actions.add_parser("add", help="pin a catalogue's root and fetch it")
    one.add_argument("name", metavar="NAME")
    one.add_argument("url", metavar="URL")
    one.add_argument("--root", metavar="FILE", required=True, help="root.json, as its publisher gave it to you")
    one = actions.add_parser("update", help="fetch the newest content")
    one.add_argument("name", metavar="NAME", nargs="*")
    actions.add_parser("list", help="the catalogues, and until when they hold")
    one = actions.add_parser("check", help="whether a package is denied")
    one.add_argument("name", metavar="NAME")
    one.add_argument("purl", metavar="PURL", nargs="+", help="pkg:npm/NAME@1.2.3")
    one = actions.add_parser("remove", help="forget a catalogue")
    one.add_argument("name", metavar="NAME")
    arguments = made.parse_args(argv)
    _, state = configuration(arguments)
    from callgate.supply import catalogue

    match arguments.action:
        case "add":
            _told(catalogue.add(state, arguments.name, arguments.url, Path(arguments.root)))
        case "update":
            for name in arguments.name or catalogue.names(state):
                _told(catalogue.update(state, name))
        case "remove":
            catalogue.remove(state, arguments.name)
        case "list":
            return _list(state)
        case "check":
            return _check(state, arguments.name, arguments.purl)
    return EXIT_OK


def _told(found: object) -> None:
    from callgate.supply.catalogue import Catalogue

    if isinstance(found, Catalogue):
        print(f"{found.name}: version {found.version}, holds until {found.expires:%Y-%m-%d %H:%M} UTC")
        print(f"  {len(found.approved)} servers approved, {len(found.denied)} packages denied")


def _list(state: Path) -> int:
    from callgate.supply import catalogue

    status = EXIT_OK
    for name in catalogue.names(state):
        try:
            _told(catalogue.load(state, name))
        except TrustError as error:
            print(f"{name}: {error.what}")
            status = EXIT_NO
    if not catalogue.names(state):
        print("no catalogue: callgate trust catalogue add NAME URL --root FILE")
    return status


def _check(state: Path, name: str, purls: list[str]) -> int:
    from callgate.supply import catalogue

    found = catalogue.load(state, name)
    status = EXIT_OK
    for purl in purls:
        denied = found.denial(purl)
        if denied:
            status = EXIT_NO
        why = f"denied: {visible(denied.reason, 120) or 'no reason told'}" if denied else "not denied"
        print(f"{visible(purl, 120)}\n  {why}" if len(purl) + len(why) > 76 else f"{visible(purl, 120)}  {why}")
    return status


@answered
def osv_action(argv: list[str]) -> int:
    """0 nothing is known against it; 1 something is; 2 usage."""
    made = parser(
        "osv",
        "Known malicious packages and vulnerable versions, from exports of an OSV\n"
        "database that you download (all.zip of npm or PyPI). Nothing is fetched.",
    )
    actions = made.add_subparsers(dest="action", required=True, metavar="ACTION")
    one = actions.add_parser("load", help="build the index from an export: a ZIP, or a directory of them")
    one.add_argument("file", metavar="FILE")
    one = actions.add_parser("check", help="what is known against a package")
    one.add_argument("purl", metavar="PURL", nargs="+", help="pkg:npm/NAME@1.2.3, pkg:pypi/NAME@1.2.3")
    arguments = made.parse_args(argv)
    _, state = configuration(arguments)
    from callgate.supply import osv

    if arguments.action == "load":
        loaded = osv.load(Path(arguments.file), state)
        print(f"{loaded.records} records about {loaded.packages} packages in {loaded.seconds:.1f} s")
        print(f"  {loaded.malicious} of malicious packages; left out: {loaded.withdrawn} withdrawn")
        if loaded.unreadable:
            print(f"  {loaded.unreadable} could not be read")
        return EXIT_OK
    status = EXIT_OK
    for purl in arguments.purl:
        found = osv.check(state, purl)
        print(f"{visible(purl, 120)}  " + (f"{len(found)} known" if found else "nothing known"))
        for advisory in found:
            print(textwrap.fill(advisory.describe(), 80, initial_indent="  ", subsequent_indent="    "))
            status = EXIT_NO
    age = osv.age_days(state)
    if age is not None and age > OLD_DAYS:
        print(f"the index is {age:.0f} days old: load a newer export")
    return status
