"""`staticgraph doctor`: what this installation can do, what is missing, and a check of everything on a GPU.

`facts` looks at the machine, `text` tells it, `check` runs the stages of ``--gpu-check``.
"""
