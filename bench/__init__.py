"""How fast callgate is, beside floors and peers. `python -m bench --help`."""
