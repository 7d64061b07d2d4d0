"""Plugins that ship with the package, to use and to read: each is one file, over `import hypervisor` alone.

Their names are known to ``--plugin`` and ``plugins=`` as those of installed plugins are
(`hypervisor.traps.plugins.plugin_set.SHIPPED`).
"""
