"""The Python interface: `hpo.run`, `hpo.load_study` and their like. `import hpo` loads them when they are asked for.

Never: runs a study inside the caller's process, or takes over its signals; a process of its own drives each study.
"""
