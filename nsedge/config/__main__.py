"""Print docs/settings.md: `python -m nsedge.config`."""

from nsedge.config.declared import page

print(page(), end="")
