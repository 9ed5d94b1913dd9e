"""Four widgets for notebooks: thin views over tested functions, made of core ipywidgets only, so that Lab, VS Code and Colab show them.

    NextTokens      which token comes next, by which model, at which temperature      `nexttoken`
    MaskingXray     which tokens of a training row carry loss                         `masking`, `xray`
    Playground      a message answered untuned and tuned, the ladder rung by rung     `sidebyside`, `ladder`
    ErrorExplorer   a run's answers by failure, and labels given by a person          `labelling`

A widget keeps one state, gives it with each click to a function that is tested without it, and shows what comes back. Where no widget can
be shown (a stored notebook, a page of a repository) its figure and its text stand there instead: see `parts.View`.
"""

from ftlab.widgets.errors import ErrorExplorer
from ftlab.widgets.masking import MaskingXray
from ftlab.widgets.playground import Playground
from ftlab.widgets.tokens import NextTokens

__all__ = ["ErrorExplorer", "MaskingXray", "NextTokens", "Playground"]
