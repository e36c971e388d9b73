"""How many parameters a model has: every distinct trainable tensor once, by component."""

from __future__ import annotations

import argparse
from typing import Final

from txcalc.cli.options import add_model, add_output, load_model, model_facts, title
from txcalc.formulas.params import params
from txcalc.report import Answer
from txcalc.report.components import params_section
from txcalc.units import short_count

EXAMPLES: Final = """\
  txcalc params llama3-8b
  txcalc params llama3-8b --explain
  txcalc params ./some/config.json --json
  txcalc params llama3-8b --set num_hidden_layers=16 --gqa 4
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """MODEL and the output options."""
    add_model(parser)
    add_output(parser)


def run(options: argparse.Namespace) -> Answer:
    """The parameter tree of the model."""
    model = load_model(options)
    tree = params(model)
    size = int(tree.find("params.total").value)
    return Answer(
        command="params",
        title=title(model, f"{short_count(size)} parameters"),
        model=model_facts(model),
        tree=tree,
        sections=(params_section(tree),),
        notes=model.notes,
        reasons=model.reasons,
    )
