"""The command line. Nothing here imports torch; each command imports what it needs when it runs."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from llmkit import __version__
from llmkit.errors import LlmkitError, UserError
from llmkit.ranks import speaker

Parser = argparse.ArgumentParser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status (0 well, 1 our fault, 2 the user's)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if words[0] == "--version":
        print(f"llmkit {__version__}")
        return 0
    if words[0] not in COMMANDS:
        from llmkit.wording import nearest

        remedy = nearest(words[0], COMMANDS) or "see llmkit --help"
        print(f"llmkit: no command {words[0]!r}; {remedy}", file=sys.stderr)
        return 2
    describe, act = COMMANDS[words[0]]
    parser = Parser(prog=f"llmkit {words[0]}", description=act.__doc__, allow_abbrev=False)
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    describe(parser)
    options = parser.parse_intermixed_args(words[1:])
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("llmkit").setLevel(logging.INFO)
    return guard(act, options)


def guard(act: Callable[[argparse.Namespace], None], options: argparse.Namespace) -> int:
    """Run the command; an error becomes one clear message and an exit status."""
    try:
        act(options)
        return 0
    except LlmkitError as error:
        who = speaker(os.environ)
        if who is not None:
            show_traceback(options.debug)
            whole = "\n" in str(error)
            print(str(error) if whole else f"llmkit: {who}{error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("\nllmkit: stopped; run the same command again to go on", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe (`| head`) went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        who = speaker(os.environ)
        if who is not None:
            show_traceback(options.debug)
            remedy = "this is a fault of llmkit or of a library; --debug shows where"
            print(f"llmkit: {who}{type(error).__name__}: {error}; {remedy}", file=sys.stderr)
        return 1


def show_traceback(wanted: bool) -> None:
    if wanted:
        import traceback

        traceback.print_exc()


def usage() -> str:
    lines = ["usage: llmkit COMMAND ...", "", "From raw web pages to a chat assistant.", ""]
    for name, (_, act) in COMMANDS.items():
        first = (act.__doc__ or "").strip().splitlines()[0]
        lines.append(f"  {name:<9} {first}")
    lines += ["", "llmkit COMMAND --help says more. To begin: llmkit run quickstart"]
    return "\n".join(lines)


def recipe_arguments(parser: Parser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", help="a path, or the name of a shipped recipe")
    parser.add_argument(
        "overrides",
        metavar="KEY=VALUE",
        nargs="*",
        default=[],
        help="such as sft.args.learning_rate=1e-4",
    )
    parser.add_argument("--profile", help="one of the recipe's profiles")


def run_arguments(parser: Parser) -> None:
    recipe_arguments(parser)
    parser.add_argument("--only", metavar="STAGE", help="run this stage alone")
    parser.add_argument("--from", dest="from_", metavar="STAGE", help="begin with this stage")
    parser.add_argument("--to", metavar="STAGE", help="end with this stage")
    parser.add_argument("--force", action="store_true", help="run stages again that are finished")
    parser.add_argument("--output-dir", type=Path, help="where runs are kept (default: runs)")
    parser.add_argument("--price", type=float, help="dollars for a GPU's hour: tells the cost")


def run(options: argparse.Namespace) -> None:
    """Run a recipe's stages, skipping those that are finished and unchanged."""
    from llmkit.ladder import run as run_ladder

    run_ladder(
        options.recipe,
        overrides=options.overrides,
        profile=options.profile,
        only=options.only,
        from_=options.from_,
        to=options.to,
        force=options.force,
        output_dir=options.output_dir,
        price=options.price,
    )


def plan_arguments(parser: Parser) -> None:
    recipe_arguments(parser)
    parser.add_argument("--hardware", metavar="NxNAME", required=True, help="such as 8xH100")
    parser.add_argument("--price", type=float, help="dollars for a GPU's hour")
    parser.add_argument("--mfu", type=float, help="share of the peak, of 1 (default: predicted)")
    parser.add_argument("--tokens-per-second", type=float, help="of all GPUs, where measured")
    parser.add_argument("--json", action="store_true", help="print figures for a program")


def plan(options: argparse.Namespace) -> None:
    """Tell what a recipe will take on named hardware: steps, memory, hours, dollars."""
    from llmkit.plan import plan as planned

    found = planned(
        options.recipe,
        options.hardware,
        options.price,
        options.mfu,
        options.tokens_per_second,
        options.overrides,
        options.profile,
    )
    if options.json:
        import json

        print(json.dumps(found.as_dict(), indent=2))
    else:
        print(found.table())


def check(options: argparse.Namespace) -> None:
    """Check a recipe, and each of its profiles, without running anything."""
    from llmkit.recipe import Recipe

    if options.profile:
        recipe = Recipe.load(options.recipe, options.overrides, options.profile)
    else:
        recipe, *_ = Recipe.load_each(options.recipe, options.overrides)
    print(f"{recipe.file}: {len(recipe.stages)} stages, no problems: {', '.join(recipe.stages)}")


def show(options: argparse.Namespace) -> None:
    """Print a recipe as it would run, after profile, overrides and vars."""
    from ruamel.yaml import YAML

    from llmkit.recipe import Recipe

    recipe = Recipe.load(options.recipe, options.overrides, options.profile)
    yaml = YAML()  # the round-trip form keeps the order of stages, which is their meaning
    yaml.width = 100
    yaml.dump(recipe.resolved, sys.stdout)


def no_arguments(parser: Parser) -> None:
    pass


def recipes(options: argparse.Namespace) -> None:
    """List the shipped recipes."""
    from llmkit.recipe import find, shipped_names

    for name in shipped_names():
        first = find(name).read_text(encoding="utf-8").splitlines()[0]
        print(f"{name:<20} {first.lstrip('# ')}" if first.startswith("#") else name)


def chat_arguments(parser: Parser) -> None:
    parser.add_argument("model", metavar="RUN[:STAGE]", help="a run, a model folder or a Hub id")
    parser.add_argument("--temperature", type=float, default=0.0, help="0: the likeliest word")
    parser.add_argument("--max-new-tokens", type=int, default=128, help="tokens an answer may have")
    parser.add_argument("--seed", type=int, default=0, help="of the sampling")
    parser.add_argument("--system", help="a system message before the conversation")
    parser.add_argument("--output-dir", type=Path, help="where runs are kept (default: runs)")


def chat(options: argparse.Namespace) -> None:
    """Talk with a model of a run."""
    from llmkit.ladder import model_of

    if options.temperature < 0:
        raise UserError("--temperature", f"{options.temperature} is negative", "0 is the coldest")
    if options.max_new_tokens < 1:
        raise UserError("--max-new-tokens", f"{options.max_new_tokens} is not positive")
    model = model_of(options.model, options.output_dir)  # told before torch is imported

    from llmkit.chat import chat as talk

    talk(
        model,
        temperature=options.temperature,
        max_new_tokens=options.max_new_tokens,
        seed=options.seed,
        system=options.system,
    )


def report_arguments(parser: Parser) -> None:
    parser.add_argument("run", metavar="RUN", help="the name or folder of a run")
    parser.add_argument("--output-dir", type=Path, help="where runs are kept (default: runs)")


def report(options: argparse.Namespace) -> None:
    """Write a run's report.html, one self-contained page."""
    from llmkit.ladder import Run

    print(Run.open(options.run, options.output_dir).report())


def bench_arguments(parser: Parser) -> None:
    parser.add_argument("what", choices=["patches"], help="what is measured")
    parser.add_argument(
        "config",
        metavar="KEY=VALUE",
        nargs="*",
        default=[],
        help="keys of GPT2Config that differ from the model's, such as n_embd=60",
    )
    parser.add_argument("--model", help="tiny, small, 124m, 350m, 774m or 1558m (GPT-2's sizes)")
    parser.add_argument("--batch", type=int, help="rows a step")
    parser.add_argument("--context", type=int, help="tokens a row")
    parser.add_argument("--steps", type=int, default=5, help="steps timed; their median counts")
    parser.add_argument("--dtype", help="float32 or bfloat16 (by autocast)")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")


def bench(options: argparse.Namespace) -> None:
    """Measure each patch on this machine, beside stock and torch.compile."""
    from llmkit.bench.patches import bench_patches
    from llmkit.yaml12 import scalar

    pairs = [word.partition("=") for word in options.config]
    for key, equals, _ in pairs:
        if not equals:
            raise UserError(key, "is no KEY=VALUE", "such as n_embd=60")
    bench_patches(
        size=options.model,
        batch=options.batch,
        context=options.context,
        steps=options.steps,
        dtype=options.dtype,
        compiled=not options.no_compile,
        config={key: scalar(value) for key, _, value in pairs},
    )


Command = tuple[Callable[[Parser], None], Callable[[argparse.Namespace], None]]
COMMANDS: dict[str, Command] = {
    "run": (run_arguments, run),
    "check": (recipe_arguments, check),
    "plan": (plan_arguments, plan),
    "show": (recipe_arguments, show),
    "recipes": (no_arguments, recipes),
    "chat": (chat_arguments, chat),
    "report": (report_arguments, report),
    "bench": (bench_arguments, bench),
}
