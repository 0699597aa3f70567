"""Options and arguments that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

WHAT, ASKED, SEEN, RUN = "What is explained", "How it is explained", "Where the result goes", "How the model runs"


class Unit(StrEnum):
    """What is read of an output."""

    LOGIT = "logit"
    LOG_PROBABILITY = "log-probability"
    PROBABILITY = "probability"


class Features(StrEnum):
    """What the shares go to."""

    TOKENS = "tokens"
    WORDS = "words"


class Positions(StrEnum):
    """What happens to the shares of position embeddings."""

    APART = "apart"
    ADDED = "added"


ModelName = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME",
        help="A folder as save_pretrained writes it, a name on the Hugging Face hub, or 'demo'.",
        rich_help_panel=WHAT,
    ),
]
Dtype = Annotated[str, typer.Option(metavar="TYPE", help="Of the weights, such as bfloat16.", rich_help_panel=RUN)]
Device = Annotated[str, typer.Option(metavar="NAME", help="Such as cpu, cuda or mps.", rich_help_panel=RUN)]
PromptText = Annotated[
    str | None,
    typer.Argument(
        metavar="TEXT",
        help="The prompt, or - to read it from standard input. After -- it may begin with a dash.",
        show_default=False,
    ),
]
PromptFile = Annotated[
    Path | None,
    typer.Option("--file", "-f", metavar="PATH", help="Read the prompt from a file instead.", rich_help_panel=WHAT),
]
Chat = Annotated[
    bool,
    typer.Option(
        "--chat", help="The prompt is a JSON list of messages, or the text of one user message.", rich_help_panel=WHAT
    ),
]
Images = Annotated[
    list[Path] | None,
    typer.Option(
        "--image",
        "-i",
        metavar="PATH",
        help="A picture file for a model that sees; may be repeated. A text beside it is the caption or the question.",
        rich_help_panel=WHAT,
    ),
]
Regions = Annotated[
    str | None,
    typer.Option(
        "--regions",
        metavar="HOW",
        help="How images are divided: patches, pixels, visual-tokens, or the side of squares in pixels, such as 16. "
        "Default: patches.",
        rich_help_panel=ASKED,
    ),
]
RegionsMask = Annotated[
    Path | None,
    typer.Option(
        "--regions-mask",
        metavar="PATH",
        help="A picture of the image's size in which each colour is a region.",
        rich_help_panel=ASKED,
    ),
]
TargetNames = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        "-t",
        metavar="NAME",
        help="A token or class, with its leading space; may be repeated. Default: the most likely.",
        rich_help_panel=WHAT,
    ),
]
ContrastNames = Annotated[
    list[str] | None,
    typer.Option(
        "--contrast",
        "-c",
        metavar="NAME",
        help="Subtract this output from the target; of several, their mean.",
        rich_help_panel=WHAT,
    ),
]
SpanText = Annotated[
    str | None,
    typer.Option("--span", metavar="TEXT", help="Explain a continuation of several tokens.", rich_help_panel=WHAT),
]
Place = Annotated[
    str | None,
    typer.Option(
        "--position", metavar="INDEX", help="Read the target at this token: its index or text.", rich_help_panel=WHAT
    ),
]
MethodNames = Annotated[
    list[str] | None,
    typer.Option(
        "--method",
        metavar="NAME",
        help="Such as attnlrp, or with options 'smoothgrad(samples=8)'; 'apportion methods' lists all. "
        "May be repeated; several share one forward pass. Default: attnlrp, and res-lrp for what sees.",
        rich_help_panel=ASKED,
    ),
]
MethodName = Annotated[
    str | None,
    typer.Option(
        "--method",
        metavar="NAME",
        help="A method that follows rules. Default: attnlrp, and res-lrp for what sees.",
        rich_help_panel=ASKED,
    ),
]
Plugins = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin", metavar="FILE", help="A Python file that registers methods of your own.", rich_help_panel=ASKED
    ),
]
LayerMethods = Annotated[
    list[str] | None,
    typer.Option(
        "--from-layer",
        metavar="N:METHOD",
        help="Follow another method's rules in layer N and above (counted from 0), such as 6:cp-lrp.",
        rich_help_panel=ASKED,
    ),
]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.", rich_help_panel=SEEN)]

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print no report and no notes.", rich_help_panel=SEEN)]
