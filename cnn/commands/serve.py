"""``python -m cnn serve``: a page and an API that answer with the champion."""

import argparse
import logging
from functools import partial

from cnn.commands.arguments import Commands, add_command, add_model, add_provider, as_path
from cnn.publication.champions import find_model
from cnn.serving.predictor import Predictor
from cnn.support.errors import UserError


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    command = add_command(commands, "serve", "answer on a web page and by HTTP, with the champion", _run)
    add_model(command)
    add_provider(command)
    command.add_argument("--host", default="127.0.0.1", help="address to listen at; 0.0.0.0: all of this machine's")
    command.add_argument("--port", type=_port, default=8080, help="port to listen at; 0: any that is free")
    command.add_argument("--collect", type=as_path, help="folder that keeps images and labels that visitors correct")
    command.add_argument("--allow-urls", action="store_true", help="fetch images from public addresses that are posted")
    command.add_argument("--max-mib", type=_at_least_one, default=32, help="MiB of one request (32)")
    command.add_argument("--max-images", type=_at_least_one, default=16, help="images of one request (16)")
    command.add_argument("--max-seconds", type=_at_least_one, default=30, help="to send one or read its answer (30)")
    command.add_argument("--max-waiting", type=_at_least_one, default=128, help="images that may wait, of all (128)")


def _port(text: str) -> int:
    if not (text.isdecimal() and int(text) < 1 << 16):
        raise argparse.ArgumentTypeError(f"{text}: expected a port, 0 to 65535")
    return int(text)


def _at_least_one(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= 1_000_000):
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number from 1 to 1,000,000")
    return int(text)


def _run(given: argparse.Namespace) -> None:
    from cnn.serving.web.app import create_app  # as FastAPI takes half a second
    from cnn.serving.web.collection import Collection
    from cnn.serving.web.current import CurrentChampion
    from cnn.serving.web.guard import names_of
    from cnn.serving.web.server import listen, serve
    from cnn.serving.web.uploads import Limits

    if given.max_waiting < given.max_images:
        raise UserError(f"--max-waiting {given.max_waiting}: expected --max-images ({given.max_images}) or more.")
    limits = Limits(given.max_mib << 20, given.max_images, given.max_seconds, given.max_waiting)
    name = find_model(given.models, given.name).name  # once: another model may be published later
    champion = CurrentChampion(partial(Predictor.champion, given.models, name, given.provider, given.int8))
    collection = Collection(given.collect, champion.predictor.classes) if given.collect else None
    listener = listen(given.host, given.port)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    host, port = listener.getsockname()[:2]
    print(f"{champion.predictor.version} answers at http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)
    names = names_of(given.host)
    app = create_app(champion, limits, names=names, collection=collection, allow_urls=given.allow_urls)
    serve(app, listener, given.max_seconds)
