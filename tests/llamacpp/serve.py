"""Runs the real llama.cpp server (package xllamacpp) in the foreground on loopback until its standard input ends.

`serve.py MODEL.gguf --port N`; it says `ready` on stdout once it serves.  Making the model is `make_model.py`'s.
"""

from __future__ import annotations

import argparse
import os
import sys

import xllamacpp


def parameters(options: argparse.Namespace) -> xllamacpp.CommonParams:
    """llama.cpp's own settings for what was asked on the command line."""
    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.hostnames = ["127.0.0.1"]
    params.port = options.port
    params.model_alias = {options.alias}
    params.n_ctx = options.ctx * options.parallel  # shared by the slots
    params.n_parallel = options.parallel
    params.n_gpu_layers = 0
    params.sampling.ignore_eos = options.endless
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.use_jinja = True
    params.warmup = False
    params.ui = False
    params.endpoint_metrics = params.endpoint_slots = params.endpoint_props = True
    if options.api_key:
        params.api_keys = [options.api_key]
    if options.embedding:
        params.embedding = True
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    return params


def main() -> None:
    parser = argparse.ArgumentParser(description="Run llama.cpp's server.")
    parser.add_argument("model")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--alias", default="tiny-llama", help="the model's name in its API")
    parser.add_argument("--ctx", type=int, default=8192, help="context of each slot, in tokens")
    parser.add_argument("--parallel", type=int, default=2, help="slots")
    parser.add_argument("--embedding", action="store_true")
    parser.add_argument("--endless", action="store_true", help="go on after the end of a text, until the context is full")
    parser.add_argument("--api-key", default="")
    server = xllamacpp.Server(parameters(parser.parse_args()))
    print("ready", flush=True)
    os.dup2(2, 1)  # nobody reads the pipe from here on: what llama.cpp prints goes to the log
    sys.stdin.buffer.read()  # it ends when whoever started this goes, even by SIGKILL: no server is left behind
    del server


if __name__ == "__main__":
    main()
